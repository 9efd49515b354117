package sip

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 8760 keeps it for old clients
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// digestServer proves who a terminal is (RFC 7616 as RFC 8760 wants it for SIP): SHA-256 and
// MD5, qop=auth, nonces that carry their own age, HA1 instead of passwords. Safe for
// concurrent use.
type digestServer struct {
	realm  string
	secret []byte
	now    func() time.Time
	count  *counters
	users  map[string]credential   // by the name in the digest
	byID   map[identity]credential // by every identity

	mu    sync.Mutex
	nc    map[string]nonceUse // newest count of each nonce in use
	fails map[string]failures // by source and by user
}

type credential struct {
	ids    []identity // the AoR first
	md5    string
	sha256 string
}

type nonceUse struct {
	count uint64
	until time.Time
}

type failures struct {
	n     int
	since time.Time
}

const (
	nonceLife   = 60 * time.Second
	failLimit   = 5
	failTime    = time.Minute
	maxRemember = 100_000 // nonces and failures, each
)

func newDigestServer(realm string, users []Credential, now func() time.Time, c *counters) (*digestServer, error) {
	d := &digestServer{
		realm: realm, secret: make([]byte, 32), now: now, count: c,
		users: map[string]credential{}, byID: map[identity]credential{}, nc: map[string]nonceUse{}, fails: map[string]failures{},
	}
	if _, err := rand.Read(d.secret); err != nil {
		return nil, err
	}
	for _, u := range users {
		id, err := parseIdentity(u.AoR)
		if err != nil {
			return nil, fmt.Errorf("sip.users: %q: %w", u.AoR, err)
		}
		name := u.User
		if name == "" {
			p, _ := parseURI(u.AoR)
			name = p.user
		}
		c := credential{ids: []identity{id}, md5: strings.ToLower(u.MD5), sha256: strings.ToLower(u.SHA256)}
		for _, text := range u.Identities {
			more, err := parseIdentity(text)
			if err != nil {
				return nil, fmt.Errorf("sip.users: %q: %w", text, err)
			}
			c.ids = append(c.ids, more)
		}
		if u.Password != "" {
			c.md5 = hexHash(md5.New(), name+":"+realm+":"+u.Password)
			c.sha256 = hexHash(sha256.New(), name+":"+realm+":"+u.Password)
		}
		if _, twice := d.users[name]; twice {
			return nil, fmt.Errorf("sip.users: %q is there twice", name)
		}
		d.users[name] = c
		for _, id := range c.ids {
			d.byID[id] = c
		}
	}
	return d, nil
}

func hexHash(h hash.Hash, text string) string {
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

// prove returns whose credentials a request carries, or the answer it gets instead: a
// challenge, or 403 for a source or user that failed too often.
func (d *digestServer) prove(r *request) (credential, *reply) {
	source := r.peer.Addr().String()
	cred := d.credentials(r)
	if cred == nil {
		return credential{}, d.challenge(r, false)
	}
	if d.locked("source "+source) || d.locked("user "+cred.Username) {
		d.count.add("digest_locked")
		return credential{}, &reply{code: 403}
	}
	fresh, ours := d.nonceAge(cred.Nonce)
	if ours && !fresh {
		return credential{}, d.challenge(r, true)
	}
	user, known := d.users[cred.Username]
	if !ours || !known || !d.right(user, cred, string(r.Method)) || !d.about(cred.URI, r) {
		d.count.add("digest_failed")
		d.failed("source " + source)
		d.failed("user " + cred.Username)
		return credential{}, d.challenge(r, false)
	}
	if !d.rises(cred.Nonce, uint64(cred.Nc)) {
		d.count.add("digest_replayed")
		return credential{}, d.challenge(r, true)
	}
	return user, nil
}

// credentials returns the Digest credentials for our realm, nil when there are none.
func (d *digestServer) credentials(r *request) *digest.Credentials {
	for _, h := range r.GetHeaders("Authorization") {
		if !strings.EqualFold(firstWord(h.Value()), "digest") {
			continue
		}
		c, err := digest.ParseCredentials(h.Value())
		if err == nil && c.Realm == d.realm && c.QOP == "auth" && c.Nc > 0 && len(c.Username) <= 128 && len(c.Cnonce) <= 256 {
			return c
		}
	}
	return nil
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return w
}

// right checks the response in constant time.
func (d *digestServer) right(u credential, c *digest.Credentials, method string) bool {
	h, ha1 := md5.New, u.md5
	switch strings.ToUpper(c.Algorithm) {
	case "", "MD5":
	case "SHA-256":
		h, ha1 = sha256.New, u.sha256
	default:
		return false
	}
	if ha1 == "" {
		return false
	}
	ha2 := hexHash(h(), method+":"+c.URI)
	want := hexHash(h(), fmt.Sprintf("%s:%s:%08x:%s:%s:%s", ha1, c.Nonce, c.Nc, c.Cnonce, c.QOP, ha2))
	return subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(c.Response))) == 1
}

// about reports whether the digest was made for this request: clients write the Request-URI,
// or only its host.
func (d *digestServer) about(uri string, r *request) bool {
	u, ok := parseURI(uri)
	return ok && (u.host == strings.ToLower(r.Recipient.Host) || u.host == d.realm)
}

// challenge asks for credentials, the better algorithm first.
func (d *digestServer) challenge(r *request, stale bool) *reply {
	nonce := d.nonce()
	a := &reply{code: 401}
	for _, alg := range d.algorithms(r) {
		text := `Digest realm="` + d.realm + `", nonce="` + nonce + `", opaque="scas", algorithm=` + alg + `, qop="auth"`
		if stale {
			text += ", stale=true"
		}
		a.headers = append(a.headers, gosip.NewHeader("WWW-Authenticate", text))
	}
	d.count.add("digest_challenges")
	return a
}

// algorithms returns those that can prove the user in From, as far as the client can take them;
// both for somebody unknown.
func (d *digestServer) algorithms(r *request) []string {
	from, _ := parseIdentity(headerText(r.Request, "From"))
	switch c, known := d.byID[from]; {
	case known && c.md5 == "":
		return []string{"SHA-256"}
	case known && c.sha256 == "", onlyMD5(headerText(r.Request, "User-Agent")):
		return []string{"MD5"}
	}
	return []string{"SHA-256", "MD5"}
}

// onlyMD5 reports whether a client gives up at a challenge with another algorithm, also when one
// with MD5 stands beside it: baresip before 3.12 (measured with 1.0; baresip/re pull request 1103).
func onlyMD5(userAgent string) bool {
	version, ok := strings.CutPrefix(userAgent, "baresip v")
	if !ok {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return err == nil && (major < 3 || major == 3 && minor < 12)
}

// nonce is time, chance, and a seal over both.
func (d *digestServer) nonce() string {
	b := make([]byte, 16, 32)
	binary.BigEndian.PutUint64(b, uint64(d.now().UnixNano()))
	_, _ = rand.Read(b[8:]) // never fails (crypto/rand)
	return hex.EncodeToString(append(b, d.seal(b)...))
}

func (d *digestServer) seal(b []byte) []byte {
	m := hmac.New(sha256.New, d.secret)
	m.Write(b)
	return m.Sum(nil)[:16]
}

// nonceAge reports whether a nonce has not run out, and whether it is one of ours at all. One
// of an earlier process is taken for one that has run out: it looks the same but for the seal.
func (d *digestServer) nonceAge(text string) (fresh, ours bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 32 {
		return false, false
	}
	if subtle.ConstantTimeCompare(d.seal(b[:16]), b[16:]) != 1 {
		return false, true
	}
	age := d.now().Sub(time.Unix(0, int64(binary.BigEndian.Uint64(b))))
	return age >= 0 && age < nonceLife, true
}

// rises checks that nc of a nonce goes up: a repeated one is a replay.
func (d *digestServer) rises(nonce string, nc uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if len(d.nc) >= maxRemember {
		for k, u := range d.nc {
			if now.After(u.until) {
				delete(d.nc, k)
			}
		}
		if len(d.nc) >= maxRemember {
			return false
		}
	}
	if nc <= d.nc[nonce].count {
		return false
	}
	d.nc[nonce] = nonceUse{count: nc, until: now.Add(nonceLife)}
	return true
}

func (d *digestServer) locked(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.fails[key]
	return f.n >= failLimit && d.now().Sub(f.since) < failTime
}

func (d *digestServer) failed(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if len(d.fails) >= maxRemember {
		for k, f := range d.fails {
			if now.Sub(f.since) >= failTime {
				delete(d.fails, k)
			}
		}
		if len(d.fails) >= maxRemember {
			return
		}
	}
	f := d.fails[key]
	if now.Sub(f.since) >= failTime {
		f = failures{since: now}
	}
	f.n++
	if f.n == failLimit {
		f.since = now // the lock lasts from here
	}
	d.fails[key] = f
}
