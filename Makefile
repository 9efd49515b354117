# scas: a Session Continuity Application Server for a gateway router.
GO       ?= go
BIN      := bin
SCAS     := $(BIN)/scas
LINT_VERSION := v2.15.0
LINT     := $(BIN)/golangci-lint-$(LINT_VERSION)
VULN_VERSION := v1.1.4
FUZZTIME ?= 30s
PKGS     := ./...
# Packages whose tests watch players in real time, mostly waiting: one after the other, six tests at a time.
ALONE    := /cmd/scas$$|/internal/lab/peers$$

# What the tests and the generator need beyond Go; the demo and the program need none of it.
APT_BUILD := clang-16 llvm-16 gcc libc6-dev
APT_PEERS := ffmpeg mpv mplayer vlc-bin vlc-plugin-base libmms-dev xvfb xdotool iproute2 util-linux python3 python3-gi \
             gir1.2-gst-rtsp-server-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base \
             gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav \
             baresip-core linphone-cli kamailio kamailio-ims-modules kamailio-presence-modules \
             kamailio-sqlite-modules sqlite3 sip-tester
APT_QEMU  := qemu-system-x86 cpio zstd xz-utils

.DEFAULT_GOAL := help
.PHONY: help deps generate build test test-unit matrix ims race cover fuzz test-kernels bench fmt lint vuln check-generated demo vm clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what the tests and the generator need (Debian packages, as root)
	@missing=""; for p in $(APT_BUILD) $(APT_PEERS) $(APT_QEMU); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi

generate: deps ## compile the BPF C and write the Go that loads it
	$(GO) generate ./bpf

build: ## build scas and handset; needs nothing but Go
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/scas ./cmd/handset

test: deps lint check-generated race fuzz ## everything: lint, generated code, all tests as root with real peers, fuzzing

race: deps ## all tests with the race detector, root tests and real peers included
	@export SCAS_PRIV=1; r=0; \
	$(GO) test -race -timeout 30m -p 4 $$($(GO) list $(PKGS) | grep -vE '$(ALONE)') || r=1; \
	$(GO) test -race -timeout 30m -p 1 -parallel 6 $$($(GO) list $(PKGS) | grep -E '$(ALONE)') || r=1; exit $$r

test-unit: ## the tests that need neither root nor other programs
	$(GO) test $(PKGS)

matrix: deps ## the moves between real players, all of them, with their figures
	SCAS_PRIV=1 SCAS_MATRIX=1 $(GO) test -count=1 -v -timeout 30m -run 'TestReal|TestMMS' ./cmd/scas

ims: deps ## films moved at a real IMS core by push, by pull and by themselves; prints the ladder of SIP and media
	SCAS_PRIV=1 $(GO) test -count=1 -v -timeout 10m -run '^TestIMS$$' ./cmd/scas

cover: ## coverage of the unit tests
	$(GO) test -coverprofile=$(BIN)/cover.out $(PKGS) && $(GO) tool cover -func=$(BIN)/cover.out | tail -1

# The toolchain now and then reports the end of -fuzztime itself as a failure, without an input: that is none.
fuzz: ## every fuzz target, one a core: those of RTSP's grammar for FUZZTIME (30s), the others for 6s
	@grep -rE '^func Fuzz' --include='*_test.go' . | sed -E 's,^(.*)/[^/]*:func (Fuzz[A-Za-z0-9]*).*,\1 \2,' | sort | \
	  xargs -P "$$(nproc)" -L 1 sh -c 'case $$0 in ./tracer/rtsp) t=$(FUZZTIME);; *) t=6s;; esac; \
	  out=$$($(GO) test -run "^$$" -fuzz "^$$1\$$" -fuzztime $$t -fuzzminimizetime 10x -parallel 1 $$0 2>&1); \
	  r=$$?; case "$$out" in *"Failing input"*|*panic*) ;; *"context deadline exceeded"*) r=0;; esac; echo "== $$0 $$1"; echo "$$out" | tail -n 3; if [ $$r != 0 ]; then echo "$$out"; exit 255; fi'

test-kernels: deps ## the datapath's tests on Debian's kernel 6.1, in qemu
	bpf/kernels.sh

bench: deps build ## the figures of docs/bench: datapath, decoder, gateway against plain routing, SIP under load
	$(GO) test -run '^$$' -bench . ./tracer ./tracer/rtsp ./splice
	SCAS_PRIV=1 $(GO) test -run '^$$' -bench 'ThirdPartyRegister$$|Registrars' -benchtime 20000x ./sip
	SCAS_PRIV=1 $(GO) test -run '^$$' -bench . ./bpf
	SCAS_PRIV=1 $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 20m ./cmd/scas

fmt: ## format Go and C
	gofmt -w $$(git ls-files '*.go')
	clang-format-16 -i bpf/*.c bpf/*.h

$(LINT):
	@mkdir -p $(BIN)
	GOBIN=$(CURDIR)/$(BIN) GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(BIN)/golangci-lint $(LINT)

lint: $(LINT) ## go vet, golangci-lint (imports between rooms included), gofmt
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet $(PKGS)
	$(LINT) run $(PKGS)

vuln: ## known vulnerabilities in what is called
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(VULN_VERSION) $(PKGS)

check-generated: deps ## fail when generated code differs from what is checked in
	@cp -r bpf $(BIN)/bpf.before 2>/dev/null || { mkdir -p $(BIN) && cp -r bpf $(BIN)/bpf.before; }
	@$(GO) generate ./bpf; diff -r bpf $(BIN)/bpf.before; r=$$?; rm -rf $(BIN)/bpf.before; exit $$r

demo: build ## play a film on the phone and move it to the TV (as root; nothing but Go needed)
	$(SCAS) demo

vm: ## the same in a virtual machine
	vagrant up && vagrant ssh -c 'cd /scas && sudo make demo'

clean: ## remove what was built
	rm -rf $(BIN)
