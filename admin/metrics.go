package admin

import (
	"cmp"
	"net/http"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"scas/session"
)

// metrics returns the handler of /metrics, over a registry of its own. Nothing in it names a
// user, a terminal or a film.
func (s *Server) metrics() http.HandlerFunc {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collector{s: s},
	)
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	})
	return h.ServeHTTP
}

// collector reads snapshots when it is scraped. It is unchecked (describes nothing): which
// counters there are is the rooms' affair.
type collector struct{ s *Server }

func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	metric(out, prometheus.GaugeValue, "scas_build_info", "Always 1; says which build runs.", 1,
		"version", c.s.cfg.Version, "goversion", runtime.Version())

	sessions := map[string]int{}
	for _, st := range []session.State{session.Setup, session.Playing, session.Paused, session.Ended} {
		sessions[string(st)] = 0
	}
	steered, lossy := 0, 0
	for _, r := range c.s.src.Table.List() {
		sessions[string(r.State)]++
		if r.Steered {
			steered++
		}
		if r.Lossy {
			lossy++
		}
	}
	gauges(out, "scas_sessions", "Sessions in the table, by state.", sessions)
	metric(out, prometheus.GaugeValue, "scas_sessions_steered", "Sessions relayed by the splicer.", float64(steered))
	metric(out, prometheus.GaugeValue, "scas_sessions_lossy", "Sessions of which facts may be missing.", float64(lossy))

	transfers := map[string]int{}
	for _, st := range []session.TransferState{session.Offered, session.Armed, session.Attached, session.Committed,
		session.Done, session.Failed, session.Declined, session.Expired, session.Cancelled} {
		transfers[string(st)] = 0
	}
	for _, t := range c.s.src.Table.Transfers() {
		transfers[string(t.State)]++
	}
	gauges(out, "scas_transfers", "Transfers in the table, by state.", transfers)
	metric(out, prometheus.GaugeValue, "scas_terminals", "Enrolled terminals.", float64(len(c.s.src.Terminals.Terminals())))

	c.room(out, "admin", Counters{Total: c.s.Stats(), Help: ownHelp})
	for room, counters := range c.s.src.Counters() {
		c.room(out, room, counters)
	}
}

func (collector) room(out chan<- prometheus.Metric, room string, counters Counters) {
	prefix := "scas_" + metricName(room) + "_"
	help := func(name, otherwise string) string {
		if counters.Help == nil {
			return otherwise
		}
		return cmp.Or(counters.Help(name), otherwise)
	}
	for name, v := range counters.Total {
		metric(out, prometheus.CounterValue, prefix+metricName(name)+"_total", help(name, "Counter "+name+" of "+room+"."), float64(v))
	}
	for name, v := range counters.Now {
		metric(out, prometheus.GaugeValue, prefix+metricName(name), help(name, "What "+name+" of "+room+" is now."), float64(v))
	}
}

// ownHelp says what the server's own counters mean.
func ownHelp(name string) string {
	return map[string]string{
		"requests": "Requests.", "refused_host": "Requests refused: another machine's name in Host.", "refused_token": "Requests refused: no token, or a wrong one.",
		"refused_origin": "Requests refused: sent by a page of somebody else.", "refused_body": "Requests refused: a body that is no order.",
		"streams": "Event streams opened.", "streams_refused": "Event streams refused: too many are open.", "streams_dropped": "Event streams whose reader did not read.",
		"unencodable": "Values that could not be shown.",
	}[name]
}

func gauges(out chan<- prometheus.Metric, name, help string, byState map[string]int) {
	for state, n := range byState {
		metric(out, prometheus.GaugeValue, name, help, float64(n), "state", state)
	}
}

// metric sends one sample; labels are name, value, name, value.
func metric(out chan<- prometheus.Metric, t prometheus.ValueType, name, help string, v float64, labels ...string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help, names, nil), t, v, values...)
	if err != nil {
		m = prometheus.NewInvalidMetric(prometheus.NewDesc(name, help, names, nil), err)
	}
	out <- m
}

// metricName makes name fit for Prometheus: what is no letter or digit becomes '_'.
func metricName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return '_'
	}, name)
}
