package main

import (
	"net/url"
	"os"
	"slices"
)

// probeSecrets tells of files with secrets that everybody on this machine can read.
func probeSecrets(c config, file string) []finding {
	inFile := c.API.Token != "" && c.API.TokenFile == "" || len(c.SIP.Users) > 0 || slices.ContainsFunc(c.State.Servers, func(s string) bool {
		u, err := url.Parse(s)
		return err == nil && u.User != nil
	})
	files := []string{c.API.TokenFile, c.State.Credentials, c.SIP.TLS.Key}
	if inFile {
		files = append(files, file)
	}
	var found []finding
	for _, name := range files {
		if fi, err := os.Stat(name); name != "" && err == nil && fi.Mode().Perm()&0o007 != 0 {
			found = append(found, finding{Name: "secrets", Detail: name + " holds secrets, and everybody on this machine may open it",
				Hint: "chmod o= " + name + ", and let its group be that of scas"})
		}
	}
	return found
}
