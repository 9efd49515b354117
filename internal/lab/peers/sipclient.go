package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// SIPKind is a SIP client that people use as a telephone.
type SIPKind string

// The SIP clients.
const (
	Baresip  SIPKind = "baresip"
	Linphone SIPKind = "linphone"
)

// SIPKinds lists the SIP clients.
func SIPKinds() []SIPKind { return []SIPKind{Baresip, Linphone} }

// Program returns what has to be installed for the client.
func (k SIPKind) Program() string {
	return map[SIPKind]string{Baresip: "baresip", Linphone: "linphonec"}[k]
}

// SIPConfig says which client runs where, and as whom. All fields but Start are required.
type SIPConfig struct {
	Kind      SIPKind
	AoR       string // "sip:bob@ims.example"; its user part is the name in the digest
	Password  string
	Registrar netip.AddrPort // over UDP
	Service   string         // whom its user writes to
	Local     netip.Addr     // of the machine it runs on
	Start     Starter        // nil: Host
	NS        string         // namespace, for Start
	Dir       string         // empty; its configuration, what it stores and what it says
}

// SIPClient is a running SIP client whose user types messages and reads what comes.
type SIPClient struct {
	cfg   SIPConfig
	proc  *Process
	stdin *os.File
}

// StartSIPClient starts a client, which registers by itself.
func StartSIPClient(ctx context.Context, cfg SIPConfig) (*SIPClient, error) {
	if cfg.Start == nil {
		cfg.Start = Host
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(cfg.Dir, linphoneDB)), 0o700); err != nil {
		return nil, err
	}
	for name, text := range cfg.files() {
		if err := os.WriteFile(filepath.Join(cfg.Dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	args := map[SIPKind][]string{
		Baresip:  {"-f", cfg.Dir},
		Linphone: {"-c", filepath.Join(cfg.Dir, "linphonerc")},
	}[cfg.Kind]
	cmd := cfg.Start(context.WithoutCancel(ctx), cfg.NS, cfg.Kind.Program(), args...)
	cmd.Env = append(os.Environ(), "HOME="+cfg.Dir)
	return newSIPClient(cfg, cmd)
}

// newSIPClient starts cmd with a pipe to write into; what it says goes to a file.
func newSIPClient(cfg SIPConfig, cmd *exec.Cmd) (*SIPClient, error) {
	said, err := os.Create(filepath.Join(cfg.Dir, "said"))
	if err != nil {
		return nil, err
	}
	defer said.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, said, said
	c := &SIPClient{cfg: cfg, stdin: w}
	if c.proc, err = StartProcess(cmd); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return c, nil
}

// files returns the configuration of a client, as its own manual tells to write it.
func (cfg SIPConfig) files() map[string]string {
	user, domain, _ := strings.Cut(strings.TrimPrefix(cfg.AoR, "sip:"), "@")
	if cfg.Kind == Baresip {
		return map[string]string{
			"config": fmt.Sprintf("poll_method epoll\nsip_listen %s\naudio_player aubridge,nil\naudio_source aubridge,nil\n"+
				"audio_alert aubridge,nil\nmodule_path /usr/lib/baresip/modules\nmodule stdio.so\nmodule g711.so\nmodule aubridge.so\n"+
				"module_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app contact.so\n", netip.AddrPortFrom(cfg.Local, 5060)),
			"accounts": fmt.Sprintf("<%s>;auth_user=%s;auth_pass=%s;outbound=\"sip:%s;transport=udp\";regint=300;audio_codecs=PCMA\n",
				cfg.AoR, user, cfg.Password, cfg.Registrar),
			"contacts": fmt.Sprintf("\"TV\" <%s>;access=allow\n", cfg.Service),
		}
	}
	return map[string]string{"linphonerc": fmt.Sprintf(`[sip]
sip_port=5060
sip_tcp_port=-1
sip_tls_port=-1
default_proxy=0
guess_hostname=1

[proxy_0]
reg_proxy=<sip:%[1]s;transport=udp>
reg_route=<sip:%[1]s;transport=udp;lr>
reg_identity=%[2]s
reg_expires=300
reg_sendregister=1
publish=0

[auth_info_0]
username=%[3]s
userid=%[3]s
passwd=%[4]s
realm=%[5]s
domain=%[5]s

[video]
enabled=0
capture=0
display=0

[misc]
prefer_basic_chat_room=1
`, cfg.Registrar, cfg.AoR, user, cfg.Password, domain)}
}

// Say sends a message, as the user would type it.
func (c *SIPClient) Say(text string) error {
	line := "/message " + text
	if c.cfg.Kind == Linphone {
		line = "chat " + c.cfg.Service + " " + text
	}
	_, err := fmt.Fprintln(c.stdin, line)
	return err
}

// Messages returns the bodies of all messages that came, as the client keeps them: baresip has
// no other place than the screen, Linphone has a database, which may be busy: then it is an error.
func (c *SIPClient) Messages(ctx context.Context) ([]string, error) {
	if c.cfg.Kind == Baresip {
		said, err := os.ReadFile(filepath.Join(c.cfg.Dir, "said"))
		return baresipShown(said, c.cfg.Service), err
	}
	return linphoneStored(ctx, c.cfg.Dir)
}

// baresipShown finds what baresip shows of messages from a peer: its URI and, between quotes,
// the bytes.
func baresipShown(said []byte, from string) (bodies []string) {
	shown := regexp.MustCompile(`(?s)(?:^|[\r\n])` + regexp.QuoteMeta(from) + `: "(.*?)"\n`)
	for _, m := range shown.FindAllSubmatch(said, -1) {
		bodies = append(bodies, string(m[1]))
	}
	return bodies
}

// linphoneDB is where Linphone keeps its messages, below the user's home; it does not make the
// directory.
const linphoneDB = ".local/share/linphone/linphone.db"

// linphoneStored reads what came out of Linphone's database.
func linphoneStored(ctx context.Context, dir string) ([]string, error) {
	const query = `import sqlite3, sys
db = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True, timeout=10)
for (body,) in db.execute("SELECT c.body FROM chat_message_content c JOIN conference_chat_message_event e ON e.event_id = c.event_id "
        "WHERE e.direction = 0 ORDER BY c.event_id"):
    sys.stdout.buffer.write(body.encode() + b"\0")
`
	out, err := exec.CommandContext(ctx, "/usr/bin/python3", "-c", query, filepath.Join(dir, linphoneDB)).Output()
	if err != nil {
		return nil, fmt.Errorf("linphone.db: %w", err)
	}
	var bodies []string
	for body := range bytes.SplitSeq(out, []byte{0}) {
		bodies = append(bodies, string(body))
	}
	return bodies[:len(bodies)-1], nil
}

// Close ends the client as its user would, then by force.
func (c *SIPClient) Close() {
	_, _ = fmt.Fprintln(c.stdin, map[SIPKind]string{Baresip: "/quit", Linphone: "quit"}[c.cfg.Kind])
	if !c.proc.wait(5 * time.Second) {
		c.proc.signal(syscall.SIGTERM)
	}
	c.proc.Stop(time.Second)
	c.stdin.Close()
}
