package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"scas/internal/command"
)

// newRoot returns the command tree. Commands read and write only through e.
func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "scas",
		Short: "Move a running film from one terminal to another",
		Long: "scas watches the media sessions that enrolled terminals play through this router,\n" +
			"and moves a running one to another terminal of the same user, where it goes on.",
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE:              group,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return command.UsageError(err.Error()) })
	root.AddCommand(
		newServe(e), newSessions(e), newTerminals(e), newTransfer(e), newTransfers(e), newLog(e),
		newTrace(e), newDoctor(e), newConfig(e), newDemo(e), newVersion(e),
		reserved("top", "the live view"), reserved("bench", "measuring this machine (make bench measures the source tree's)"),
	)
	return root
}

// group runs a command that only holds others: it shows its help, and refuses a word that is
// no command.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	words := []string{}
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			words = append(words, c.Name())
		}
	}
	return command.UsageError(fmt.Sprintf("unknown command %q for %q%s", args[0], cmd.CommandPath(), suggest(args[0], words)))
}

// reserved returns a command that says what it will be; --help does not show it.
func reserved(name, part string) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return command.UsageError(name + " is " + reservedFor(part))
		},
	}
}

// atMost refuses more than most arguments.
func atMost(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		switch {
		case len(words) <= most:
			return nil
		case most == 0:
			return command.UsageError(fmt.Sprintf("%s takes no argument, and got %q", cmd.CommandPath(), words[0]))
		}
		return command.UsageError(fmt.Sprintf("%s takes one argument at most, and got %d: %q", cmd.CommandPath(), len(words), words))
	}
}

// output is the -o flag.
type output struct{ form string }

func (o *output) flag(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "form of the output: table or json")
}

func (o *output) json() bool { return o.form == "json" }

// String, Set and Type make output a flag value.
func (o *output) String() string { return "table" }
func (o *output) Type() string   { return "FORM" }
func (o *output) Set(s string) error {
	if forms := []string{"table", "json"}; !slices.Contains(forms, s) {
		return fmt.Errorf("want %s", strings.Join(forms, " or "))
	}
	o.form = s
	return nil
}
