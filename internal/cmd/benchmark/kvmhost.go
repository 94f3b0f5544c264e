package main

import (
	"fmt"
	"path/filepath"
	"time"
)

const (
	// maxKVM bounds the peak memory of guests, in bytes, where KVM's structures
	// list the machines.
	maxKVM = 96 << 20
	// kvmHost is a dump of a KVM host whose kernel has BTF; compressed is the
	// same one by makedumpfile.
	kvmHost    = "intel-6.1"
	compressed = "intel-6.1-d31"
)

// kvmHosts measures that listing machines by KVM's own structures takes no longer
// if the host has more memory. What is added is holes, or pages that are left out.
func (b *bench) kvmHosts() error {
	for _, size := range []struct {
		name  string
		bytes int64
	}{{"64 GiB", 64 << 30}, {"1 TiB", 1 << 40}} {
		for _, kind := range []struct {
			name, core string
			more       func(path string, size int64) error
		}{{"ELF", kvmHost, grow}, {"kdump", compressed, widen}} {
			if err := b.kvmHost(kind.name, kind.core, size.name, func(path string) error { return kind.more(path, size.bytes) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// kvmHost compares a core with one that has been given more memory.
func (b *bench) kvmHost(kind, core, size string, more func(path string) error) error {
	for _, name := range []string{"small", "large"} {
		if _, err := b.exec("cp", "--sparse=always", filepath.Join(b.made, core), b.path(name)); err != nil {
			return err
		}
	}
	if err := more(b.path("large")); err != nil {
		return err
	}
	mode := "guests by KVM's structures, " + kind
	guests := func(name string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			c := b.command(filepath.Join(b.made, "vmcsnote"), "guests", b.path(name))
			took, err := pipeline(c)
			b.peaks.note(mode, maxKVM, c)
			return took, err
		}
	}
	r, err := pairs(2*b.runs, guests("large"), guests("small"))
	if err != nil {
		return err
	}
	b.table.ratioAtMost(fmt.Sprintf("%s, %s / 1 GiB", mode, size), r, 1.2)
	return b.remove("small", "large")
}
