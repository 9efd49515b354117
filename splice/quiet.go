package splice

import "errors"

// cause is the innermost error, of several the last: what is wrapped around it may name a terminal
// and its server, and who watches what does not belong into the log above debug level.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		var several interface{ Unwrap() []error }
		if errors.As(err, &several) && len(several.Unwrap()) > 0 {
			inner = several.Unwrap()[len(several.Unwrap())-1]
		}
		if inner == nil {
			return err
		}
		err = inner
	}
}
