# Every target is a script in hack/ (or oci-conformance/) that can be called by itself.

PREFIX ?= /usr/local
DESTDIR ?=
# The runtime that `demo`, `bench`, `conformance`, `conformance-oci` and `conformance-runc` look at; empty: the release binary.
RUNTIME ?=

export PREFIX DESTDIR RUNTIME

.PHONY: help demo test test-vm races build install bench bench-vm check-aarch64 conformance conformance-table conformance-oci conformance-runc lint deps clean

help: ## show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## build tare and let a container tell what it sees
	@hack/deps build demo
	@hack/demo

test: ## run all tests against the release binary
	@hack/deps build test
	@hack/test

test-vm: ## run the integration tests on cgroup v2 and systemd, in a virtual machine
	@hack/deps build vm
	@hack/vm test

races: ## many commands at once on one container, for 30 minutes; a quick look: hack/races --minutes 1
	@hack/deps build races
	@hack/binary build >/dev/null
	@hack/races

build: ## build the static release binary, its manual pages and completions
	@hack/deps build
	@hack/binary build
	@hack/manual build

install: ## install what `make build` built: PREFIX=/usr/local, DESTDIR for packagers
	@hack/install

bench: ## compare with crun, runc and the kernel's own cost; a quick look: hack/bench --rounds 3 --only a,c
	@hack/deps build bench
	@hack/binary build >/dev/null
	@hack/bench

bench-vm: ## the same on cgroup v2, in a virtual machine; a quick look: hack/vm bench --rounds 3 --only a,c
	@hack/deps build bench vm
	@hack/vm bench

conformance: ## run our own conformance suite, on any runtime: RUNTIME=runc
	@hack/deps build
	@hack/conformance

conformance-table: ## make the tables of docs/conformance.md of what the suite finds here, for tare, runc and crun
	@hack/deps build bench
	@hack/conformance-table run

conformance-oci: ## run the official validation suite, side by side with runc
	@hack/deps build conformance
	@oci-conformance/runtime-tools

conformance-runc: ## run runc's own integration tests, test by test beside runc
	@hack/deps build conformance-runc
	@oci-conformance/runc-suite

lint: ## formatting, clippy, shellcheck
	@hack/deps build lint
	@hack/lint

check-aarch64: ## type-check everything for aarch64
	@hack/deps build
	@hack/aarch64

deps: ## install everything that any target needs (Debian)
	@hack/deps

clean: ## remove everything that was built
	@rm -rf target
