package session

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// The ways a binding becomes known.
const (
	FromStatic    = "static"    // the configuration names it
	FromRegister  = "register"  // a third-party REGISTER of the core
	FromRegEvent  = "reg-event" // a NOTIFY of the reg event package
	FromRegistrar = "registrar" // our own registrar
)

// Binding is one terminal of one user, as a registration or the configuration made it known
// (RFC 3261 §10, RFC 5626, 3GPP TS 24.229 §5.4.1.7). It is a value.
type Binding struct {
	Key          string     `json:"key"`        // AoR + instance (+ reg-id), or AoR + contact
	AoR          string     `json:"aor"`        // normalised
	Identities   []string   `json:"identities"` // every public identity of the implicit set
	Instance     *string    `json:"instance"`   // +sip.instance without quotes and brackets; nil when not said
	Name         string     `json:"name"`       // unique per AoR: the user's name for it, else derived
	IP           netip.Addr `json:"ip"`         // unmapped; invalid when unknown: opens nothing
	Contact      string     `json:"contact"`
	Path         []string   `json:"path"` // Route to the contact, in order
	GRUU         *string    `json:"gruu"` // public GRUU (RFC 5627)
	UserAgent    *string    `json:"user_agent"`
	Source       string     `json:"source"`  // FromStatic, FromRegister, FromRegEvent or FromRegistrar
	Expires      *time.Time `json:"expires"` // nil: never
	CallID       string     `json:"call_id"` // of the newest REGISTER taken, with CSeq: older ones are ignored
	CSeq         uint32     `json:"cseq"`
	Capabilities []string   `json:"capabilities"` // feature tags
	Active       *bool      `json:"active"`       // what presence says; nil when it says nothing
	Since        time.Time  `json:"since"`        // when it was first known
	Confirmed    bool       `json:"confirmed"`    // a second source has shown it as well
}

// Live reports whether the registration has not run out at now.
func (b Binding) Live(now time.Time) bool { return b.Expires == nil || now.Before(*b.Expires) }

// Opens reports whether the binding admits its address on the gateways at now.
func (b Binding) Opens(now time.Time) bool { return b.IP.IsValid() && b.Live(now) }

// Terminal returns the terminal that the binding stands for.
func (b Binding) Terminal() Terminal { return Terminal{Name: b.Name, IP: b.IP} }

// Clone returns a copy that shares no memory a writer of b could change.
func (b Binding) Clone() Binding {
	b.Identities, b.Path = slices.Clone(b.Identities), slices.Clone(b.Path)
	b.Capabilities = slices.Clone(b.Capabilities)
	return b
}

// User is what is kept of a user of the service beyond registrations.
type User struct {
	AoR   string            `json:"aor"`   // normalised
	Auto  bool              `json:"auto"`  // films follow the user by themselves
	Names map[string]string `json:"names"` // instance, else binding key -> the name its user gave it
	Forms map[string]string `json:"forms"` // the same -> the form of message it used last
}

// Clone returns a copy that shares no memory a writer of u could change.
func (u User) Clone() User {
	u.Names, u.Forms = maps.Clone(u.Names), maps.Clone(u.Forms)
	return u
}

// Taken is a request that was carried out, kept so that the same request, come again, gets
// the same answer and nothing else happens.
type Taken struct {
	Key      string    `json:"key"`      // names the request: user and its ref
	At       time.Time `json:"at"`       // when it was taken
	Expires  time.Time `json:"expires"`  // from when on the same key means another request
	Code     int       `json:"code"`     // the SIP status answered
	Answer   string    `json:"answer"`   // body answered; empty when none or not known yet
	Transfer string    `json:"transfer"` // id of what it began; empty when nothing
}
