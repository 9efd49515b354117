package lab

import "os"

// TB is the part of testing.TB that Root needs, so that the program does not link package
// testing for its demo.
type TB interface {
	Helper()
	Skip(args ...any)
	Fatal(args ...any)
}

// Root returns when the test runs as root. Else it skips the test, and fails it when
// SCAS_PRIV=1 says that the tests with privileges must run.
func Root(tb TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SCAS_PRIV") == "1" {
		tb.Fatal("SCAS_PRIV=1, but the test does not run as root: it makes network namespaces")
	}
	tb.Skip("needs root: makes network namespaces")
}
