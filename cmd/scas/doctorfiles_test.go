package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Files with secrets are told of when everybody can read them, and only then.
func TestProbeSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return name
	}
	open, closed := write("open", 0o644), write("closed", 0o640)
	for name, tt := range map[string]struct {
		c    config
		file string
		want int
	}{
		"no secrets":                {config{}, open, 0},
		"token":                     {config{API: apiConfig{Token: "secret"}}, open, 1},
		"token, closed":             {config{API: apiConfig{Token: "secret"}}, closed, 0},
		"token in a file":           {config{API: apiConfig{Token: "secret", TokenFile: closed}}, open, 0},
		"token in an open file":     {config{API: apiConfig{Token: "secret", TokenFile: open}}, closed, 1},
		"password of the store":     {config{State: stateConfig{Servers: []string{"tls://scas:secret@192.0.2.7:4222"}}}, open, 1},
		"store without password":    {config{State: stateConfig{Servers: []string{"tls://192.0.2.7:4222"}}}, open, 0},
		"credentials of the store":  {config{State: stateConfig{Credentials: open}}, closed, 1},
		"a file that is not there":  {config{State: stateConfig{Credentials: filepath.Join(dir, "none")}}, closed, 0},
		"token, and no file at all": {config{API: apiConfig{Token: "secret"}}, "", 0},
	} {
		if found := probeSecrets(tt.c, tt.file); len(found) != tt.want || len(found) > 0 && (found[0].OK || found[0].Required) {
			t.Errorf("%s: %+v", name, found)
		}
	}
}
