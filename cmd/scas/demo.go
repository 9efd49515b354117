package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newDemo(e *env) *cobra.Command {
	return &cobra.Command{Use: "demo", Short: "Play a film on a phone and move it to a TV, in namespaces on this machine",
		RunE: func(*cobra.Command, []string) error { return errors.New("not yet") }}
}
