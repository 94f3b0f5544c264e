# SPDX-License-Identifier: Apache-2.0
# Short names for what the scripts do; each runs without make, too.
GO ?= go

.PHONY: build check full package bench

# A static program, ./vmcsnote.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w'

# What to run before each commit: about a minute. Needs only Go.
check:
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) test ./...

# All that must hold before a change lands: half an hour. Needs Debian 12 and root.
full:
	.ci/run

# Packages, into dist/.
package:
	scripts/package

# Measures, each with its bound. As root on several file systems.
bench:
	scripts/bench
