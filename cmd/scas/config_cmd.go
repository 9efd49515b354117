package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"scas/internal/command"
)

// configFlags are the flags of the commands that read the configuration file.
type configFlags struct {
	file     string
	settings []string
}

func (f *configFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "configuration `FILE` (default $SCAS_CONFIG or "+defaultConfigFile+")")
	cmd.Flags().StringArrayVar(&f.settings, "set", nil, "override one key of the file: `KEY=VALUE`, as gateway.lan=eth1,eth2")
}

func (f *configFlags) sources(e *env) configSources {
	return configSources{file: configFile(e, f.file), environ: e.environ, settings: f.settings}
}

// load reads the configuration and says itself what is wrong with it.
func (f *configFlags) load(e *env) (config, error) {
	c, err := loadConfig(e, f.sources(e))
	var ce *configError
	if errors.As(err, &ce) {
		fmt.Fprintln(e.stderr, err)
		return c, command.ErrSilent
	}
	return c, err
}

func newConfig(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Work with the configuration file", Args: cobra.ArbitraryArgs, RunE: group}
	cmd.AddCommand(newConfigCheck(e))
	return cmd
}

func newConfigCheck(e *env) *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong with the configuration, with line and column",
		Args:  atMost(1),
		RunE: func(_ *cobra.Command, words []string) error {
			if len(words) == 1 {
				if f.file != "" {
					return command.UsageError("config check: the file is named twice")
				}
				f.file = words[0]
			}
			c, err := f.load(e)
			if err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%s: good: %s\n", f.sources(e).file, c.summary())
			return nil
		},
	}
	f.flags(cmd)
	return cmd
}
