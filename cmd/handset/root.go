package main

import (
	"crypto/sha1" //nolint:gosec // RFC 4122 §4.3 names it
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scas/internal/command"
	"scas/sip"
)

// account are the flags that say who the terminal is and whom it talks to.
type account struct {
	aor, user, passwordFile, proxy, service, local, instance, agent, ca, socket string
	expires                                                                     time.Duration
	output                                                                      string
}

// newRoot returns the command tree. Commands read and write only through e.
func newRoot(e *env) *cobra.Command {
	a := &account{}
	root := &cobra.Command{
		Use:   "handset",
		Short: "The SIP half of a terminal: offers, orders, presence",
		Long: "handset run registers a terminal and stays: it shows offers to go on with a film, and starts\n" +
			"the player for the one that is accepted. The other commands speak through the one that runs,\n" +
			"or by themselves when none does and --aor is given.",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return command.UsageError("-o: want table or json")
			}
			return nil
		},
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) > 0 {
				return command.UsageError(fmt.Sprintf("unknown command %q", words[0]))
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return command.UsageError(err.Error()) })
	f := root.PersistentFlags()
	f.StringVar(&a.aor, "aor", e.getenv("HANDSET_AOR"), "public identity, `URI` such as sip:alice@ims.example (HANDSET_AOR)")
	f.StringVar(&a.user, "user", e.getenv("HANDSET_USER"), "`NAME` in the digest; default the user part of --aor (HANDSET_USER)")
	f.StringVar(&a.passwordFile, "password-file", "", "`FILE` with the password; default the variable HANDSET_PASSWORD")
	f.StringVar(&a.proxy, "proxy", e.getenv("HANDSET_PROXY"), "P-CSCF or application server, `URI` such as sip:192.0.2.1;transport=tcp (HANDSET_PROXY)")
	f.StringVar(&a.service, "service", e.getenv("HANDSET_SERVICE"), "`URI` of the service; default sip:scas@ the domain of --aor (HANDSET_SERVICE)")
	f.StringVar(&a.local, "local", "", "local `ADDRESS[:PORT]`; default the one that leads to --proxy, any port")
	f.StringVar(&a.instance, "instance", e.getenv("HANDSET_INSTANCE"), "`URN` of this terminal; default made of machine and --aor (HANDSET_INSTANCE)")
	f.StringVar(&a.agent, "user-agent", "scas-handset", "`NAME` told to the network; the terminal's first name comes of it")
	f.StringVar(&a.ca, "ca", "", "`FILE` with the certificates that the proxy's must lead to; default the system's")
	f.DurationVar(&a.expires, "expires", 10*time.Minute, "of the registration")
	f.StringVar(&a.socket, "socket", e.getenv("HANDSET_SOCKET"), "unix socket `PATH` of the handset that runs; default one for each --aor and --instance (HANDSET_SOCKET)")
	f.StringVarP(&a.output, "output", "o", "table", "`FORM` of the output: table or json, one object a line")
	root.AddCommand(newRun(e, a), newList(e, a), newPush(e, a), newPull(e, a), newAuto(e, a), newName(e, a),
		newAnswer(e, a, "yes"), newAnswer(e, a, "no"), newCancel(e, a), newPresence(e, a))
	return root
}

// args wraps a check of the arguments so that it fails as usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		if err := check(cmd, words); err != nil {
			return command.UsageError(cmd.CommandPath() + ": " + err.Error())
		}
		return nil
	}
}

// client returns the configuration of the SIP client.
func (a *account) client(e *env) (sip.ClientConfig, error) {
	c := sip.ClientConfig{
		AoR: a.aor, User: a.user, Password: e.getenv("HANDSET_PASSWORD"), Proxy: a.proxy, Service: a.service,
		Instance: a.urn(e), Expires: a.expires, UserAgent: a.agent, Now: e.now,
	}
	if a.aor == "" {
		return c, command.UsageError("--aor is missing")
	}
	if a.expires < time.Minute/2 || a.expires > 24*time.Hour {
		return c, command.UsageError("--expires: want 30s to 24h")
	}
	if a.passwordFile != "" {
		text, err := e.readFile(a.passwordFile)
		if err != nil {
			return c, err
		}
		c.Password = strings.TrimRight(string(text), "\r\n")
	}
	if a.local != "" {
		local, err := netip.ParseAddrPort(a.local)
		if err != nil {
			var addr netip.Addr
			addr, err = netip.ParseAddr(a.local)
			local = netip.AddrPortFrom(addr, 0)
		}
		if err != nil {
			return c, command.UsageError("--local: " + err.Error())
		}
		c.Local = local
	}
	c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if a.ca != "" {
		pem, err := e.readFile(a.ca)
		if err != nil {
			return c, err
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("%s: no certificate in it", a.ca)
		}
	}
	return c, nil
}

// urn returns the instance: as given, else a UUID of machine and AoR, the same in every run
// (RFC 4122 §4.3).
func (a *account) urn(e *env) string {
	if a.instance != "" {
		return a.instance
	}
	machine, err := e.readFile("/etc/machine-id")
	if err != nil {
		host, _ := os.Hostname()
		machine = []byte(host)
	}
	h := sha1.Sum(append(machine, a.aor+a.local...)) //nolint:gosec // not a secret
	h[6], h[8] = h[6]&0x0f|0x50, h[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// path returns the unix socket of the handset that runs.
func (a *account) path(e *env) string {
	if a.socket != "" {
		return a.socket
	}
	dir := e.getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("handset-%d", os.Getuid()))
	}
	h := sha1.Sum([]byte(a.aor + " " + a.urn(e))) //nolint:gosec // not a secret
	return filepath.Join(dir, fmt.Sprintf("handset-%x.sock", h[:6]))
}
