package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildInfo says which build this is.
type buildInfo struct {
	Version  string  `json:"version"`
	Revision *string `json:"revision"` // of the source; nil when built outside a checkout
	Modified bool    `json:"modified"` // the checkout had changes
	Go       string  `json:"go"`
	Platform string  `json:"platform"`
}

func readBuildInfo() buildInfo {
	out := buildInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		out.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			out.Revision = &s.Value
		case "vcs.modified":
			out.Modified = s.Value == "true"
		}
	}
	return out
}

func newVersion(e *env) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "version", Short: "Say which build this is", Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			b := readBuildInfo()
			if out.json() {
				return json.NewEncoder(e.stdout).Encode(b)
			}
			fmt.Fprintf(e.stdout, "scas %s %s %s\n", b.Version, b.Go, b.Platform)
			return nil
		},
	}
	out.flag(cmd)
	return cmd
}
