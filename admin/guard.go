package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
)

// route is one thing the API serves. openapi.yaml lists exactly these.
type route struct {
	method, path string
	open         bool // answered without a token: says nothing of anybody
	serve        http.HandlerFunc
}

func (s *Server) routes() []route {
	return []route{
		{"GET", "/v1/sessions", false, s.listSessions},
		{"GET", "/v1/sessions/{id}", false, s.getSession},
		{"GET", "/v1/terminals", false, s.listTerminals},
		{"GET", "/v1/transfers", false, s.listTransfers},
		{"GET", "/v1/transfers/{id}", false, s.getTransfer},
		{"POST", "/v1/transfers", false, s.postTransfer},
		{"DELETE", "/v1/transfers/{id}", false, s.deleteTransfer},
		{"GET", "/v1/log", false, s.listLog},
		{"GET", "/v1/events", false, s.events},
		{"GET", "/metrics", false, s.metrics()},
		{"GET", "/healthz", true, s.health},
		{"GET", "/readyz", true, s.ready},
		{"GET", "/openapi.yaml", true, s.openapi},
		{"GET", "/", false, s.page},
	}
}

// handler returns everything the API serves: behind the token and the Host check, or, for a
// trusted listener, without them.
func (s *Server) handler(trusted bool) http.Handler {
	mux := http.NewServeMux()
	allowed := map[string][]string{}
	for _, r := range s.routes() {
		pattern := r.path
		if pattern == "/" {
			pattern = "/{$}"
		}
		h := r.serve
		if !trusted && !r.open {
			h = s.authorized(h)
		}
		mux.HandleFunc(r.method+" "+pattern, h)
		allowed[pattern] = append(allowed[pattern], r.method)
	}
	for pattern, methods := range allowed {
		if slices.Contains(methods, "GET") {
			methods = append(methods, "HEAD")
		}
		allow := strings.Join(methods, ", ")
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", allow)
			fail(w, http.StatusMethodNotAllowed, codeBadRequest, "this path answers "+allow)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, codeNotFound, "no such path")
	})
	return s.guarded(mux, trusted)
}

// guarded lets a request through to next when no web page of somebody else can have sent it.
func (s *Server) guarded(next http.Handler, trusted bool) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.stats.requests.Add(1)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if !trusted && s.cfg.Token == "" && !loopback(hostOnly(r.Host)) {
			s.stats.refusedHost.Add(1)
			fail(w, http.StatusForbidden, codeForbidden, "the Host header names another machine than this one")
			return
		}
		if err := origin.Check(r); err != nil {
			s.stats.refusedOrigin.Add(1)
			fail(w, http.StatusForbidden, codeForbidden, "a page of another origin sent this request")
			return
		}
		if changes(r.Method) && hasBody(r) && !isJSON(r) {
			s.stats.refusedBody.Add(1)
			fail(w, http.StatusUnsupportedMediaType, codeBadRequest, "the body must be application/json")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorized lets a request through to next when it carries the token: as Bearer, or as the
// password of Basic, which is what a browser can be made to ask its user for.
func (s *Server) authorized(next http.HandlerFunc) http.HandlerFunc {
	if s.cfg.Token == "" {
		return next
	}
	want := sha256.Sum256([]byte(s.cfg.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(presented(r)))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			s.stats.refusedToken.Add(1)
			w.Header().Add("WWW-Authenticate", `Bearer realm="scas"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="scas: the token is the password"`)
			fail(w, http.StatusUnauthorized, codeUnauthorized, "the token is missing or wrong")
			return
		}
		next(w, r)
	}
}

func presented(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

func hasBody(r *http.Request) bool { return r.Method == http.MethodPost || r.ContentLength != 0 }

func isJSON(r *http.Request) bool {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) && t == "application/json"
}
