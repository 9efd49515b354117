package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"scas/admin"
)

func newTerminals(e *env) *cobra.Command {
	var out output
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "terminals",
		Short: "Show the enrolled terminals",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []admin.Terminal
			raw, err := f.client(e).get(cmd.Context(), "/v1/terminals", &list)
			if err != nil || out.json() {
				return orJSON(e, raw, err)
			}
			if len(list) == 0 {
				fmt.Fprintln(e.stderr, "no terminal is enrolled: none is registered, and the configuration names none under subscribers")
				return nil
			}
			rows := make([][]string, 0, len(list))
			for _, t := range list {
				rows = append(rows, []string{user(t.AoR), t.Name, address(t), t.Source, clockTime(e.now(), t.Expires), yesNo(t.Active), orNone(t.UserAgent)})
			}
			return writeTable(e.stdout, []string{"USER", "NAME", "ADDRESS", "KNOWN BY", "UNTIL", "PLAYS", "PLAYER"}, rows)
		},
	}
	out.flag(cmd)
	f.flags(cmd)
	return cmd
}

// address shows a terminal's address, which a registration may leave open.
func address(t admin.Terminal) string {
	if !t.IP.IsValid() {
		return orNone(nil)
	}
	return t.IP.String()
}
