package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxKVM bounds the peak memory of guests, in bytes, where KVM's structures
	// list the machines.
	maxKVM = 96 << 20
	// maxManySeconds bounds the CPU time of listing as many machines as below.
	maxManySeconds = 5
)

// dumps are of KVM hosts whose kernels have BTF: as the kernel wrote them, and
// compressed by makedumpfile.
var dumps = []struct{ vendor, elf, kdump string }{
	{"Intel", "intel-6.1", "intel-6.1-d31"},
	{"AMD", "amd-6.1", "amd-6.1-d31"},
}

// kvmHosts measures that listing machines by KVM's own structures takes no
// more CPU time if the host has more memory. What is added is holes, or pages
// that are left out.
func (b *bench) kvmHosts() error {
	for _, host := range dumps {
		for _, size := range []struct {
			name  string
			bytes int64
		}{{"64 GiB", 64 << 30}, {"1 TiB", 1 << 40}} {
			for _, kind := range []struct {
				name, core string
				more       func(path string, size int64) error
			}{{host.vendor + ", ELF", host.elf, grow}, {host.vendor + ", kdump", host.kdump, widen}} {
				if err := b.kvmHost(kind.name, kind.core, size.name, func(path string) error { return kind.more(path, size.bytes) }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// manyMachines takes the CPU time and the memory of listing n machines, in some
// forms, and bounds the memory.
func (b *bench) manyMachines(n, vcpus int, most int64, forms ...string) error {
	if _, err := b.exec(filepath.Join(b.made, "pages"), "machines", fmt.Sprint(n), fmt.Sprint(vcpus), filepath.Join(b.made, "amd-6.12"), b.path("machines")); err != nil {
		return err
	}
	defer b.remove("machines")
	for _, form := range forms {
		mode := fmt.Sprintf("%s, %d machines of %d vCPUs", form, n, vcpus)
		runs := min(b.runs, 3)
		if form != "guests" {
			runs = 1 // for the memory; it prints up to 130 MB
		}
		var took []float64
		for range runs {
			c := b.command(filepath.Join(b.made, "vmcsnote"), append(strings.Fields(form), b.path("machines"))...)
			t, err := cpu(c)
			if err != nil {
				return err
			}
			b.peaks.note(mode, most, c)
			took = append(took, t.Seconds())
		}
		figure := ratioOf(took).median
		if form == "guests" {
			b.table.atMost(mode, figure, maxManySeconds, "%.1f s")
		} else { // what it takes is not promised
			b.table.add(mode, fmt.Sprintf("%.1f s", figure), "", true)
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
		return func() (time.Duration, error) { return b.reading(mode, maxKVM, "guests", b.path(name)) }
	}
	// They take a tenth of a second each: only many pairs tell.
	r, err := pairs(4*b.runs, guests("large"), guests("small"))
	if err != nil {
		return err
	}
	b.table.ratioAtMost(fmt.Sprintf("CPU time of %s, %s / 1 GiB", mode, size), r, 1.2)
	return b.remove("small", "large")
}
