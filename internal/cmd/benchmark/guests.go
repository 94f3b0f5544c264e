package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/pkg/errors"
)

const (
	// maxGuests bounds the peak memory of guests and extract, in bytes.
	maxGuests = 128 << 20
	// The host has 512 MiB besides its own few, most of them a guest's.
	hostPages = 128 << 10
	// crowdPages begin like a VMCS.
	crowdPages = 100_000
	// bigGuest is the machine that has the host's memory.
	bigGuest = "3"
)

// makeHost makes the dump of a KVM host with VMCSINFO in it.
func (b *bench) makeHost(kind string, pages int) error {
	if err := b.makeHostOf("host.zst", kind, pages); err != nil {
		return err
	}
	_, err := b.exec(filepath.Join(b.made, "vmcsnote"), "inject", "--search", "--placement", "slack", b.path(kind))
	return err
}

// makeHostOf gives a real host more memory.
func (b *bench) makeHostOf(from, kind string, pages int) error {
	_, err := b.exec(filepath.Join(b.made, "pages"), kind, fmt.Sprint(pages), filepath.Join(b.made, from), b.path(kind))
	return errors.Wrap(err, "make a host")
}

// guests lists the guests in a dump, and returns the CPU time.
func (b *bench) guests(mode, core string) (time.Duration, error) {
	return b.reading(mode, maxGuests, "guests", core)
}

// guestsELF compares finding guests with cat, as searchELF does.
func (b *bench) guestsELF() error {
	if err := b.makeHost("host", hostPages); err != nil {
		return err
	}
	cat := func() (time.Duration, error) { return cpu(b.command("cat", b.path("host"))) }
	guests := func() (time.Duration, error) { return b.guests("guests, ELF", b.path("host")) }
	r, err := pairs(b.runs, cat, guests)
	if err != nil {
		return err
	}
	b.table.ratioAtLeast("CPU time of cat >/dev/null / guests, ELF", r, 0.5)
	return b.remove("host")
}

// guestsKDump compares looking for guests in a compressed dump with inflating
// its pages, as searchKDump does. There are none in it.
func (b *bench) guestsKDump(method string) error {
	mode := "guests, " + method
	if err := b.makeDump(method, searchPages, searchHole, method); err != nil {
		return err
	}
	dump := b.path(method)
	if _, err := pipeline(b.tool("deb-t1", dump)); err != nil {
		return err
	}
	guests := func() (time.Duration, error) { return b.guests(mode, dump) }
	if err := b.besideInflating(mode, dump, guests, 0.8); err != nil {
		return err
	}
	return b.remove(method)
}

// crowd takes the memory and the time of a dump in which very many pages begin
// like a VMCS, against cat.
func (b *bench) crowd() error {
	if err := b.makeHost("crowd", crowdPages); err != nil {
		return err
	}
	const mode = "guests, 100,000 pages that begin like a VMCS"
	cat := func() (time.Duration, error) { return cpu(b.command("cat", b.path("crowd"))) }
	guests := func() (time.Duration, error) { return b.guests(mode, b.path("crowd")) }
	r, err := pairs(min(b.runs, 7), cat, guests)
	if err != nil {
		return err
	}
	b.table.ratioAtLeast("CPU time of cat >/dev/null / "+mode, r, 0.15)
	return b.remove("crowd")
}

// extract takes a guest out of the dump of a host whose kernel has no types:
// the dump is searched for VMCSs first.
func (b *bench) extract() error {
	if err := b.makeHost("host", hostPages); err != nil {
		return err
	}
	return b.extractOf("extract", 0.47)
}

// extractKVM takes a guest out of the dump of a host by KVM's structures. There
// is no bound: on a busy machine the ratio differed by eight times.
func (b *bench) extractKVM() error {
	if err := b.makeHostOf(dumps[0].elf, "host", hostPages); err != nil {
		return err
	}
	return b.extractOf("extract by KVM's structures", 0)
}

// extractOf compares taking a guest of 512 MiB out of its host's dump with a cp
// of what comes out; bound 0 is none. Neither waits for the disk.
func (b *bench) extractOf(mode string, bound float64) error {
	run := func() (time.Duration, error) {
		if err := b.remove("out"); err != nil {
			return 0, err
		}
		return b.reading(mode, maxGuests, "extract", "--guest", bigGuest, "--force", "-o", b.path("out"), b.path("host"))
	}
	if _, err := run(); err != nil {
		return err
	}
	if _, err := b.exec("cp", b.path("out"), b.path("guest")); err != nil {
		return err
	}
	cp := func() (time.Duration, error) {
		if err := b.remove("copy"); err != nil {
			return 0, err
		}
		return cpu(b.command("cp", b.path("guest"), b.path("copy")))
	}
	r, err := pairs(b.runs, cp, run)
	if err != nil {
		return err
	}
	name := "CPU time of cp of the same bytes / " + mode
	if bound > 0 {
		b.table.ratioAtLeast(name, r, bound)
	} else {
		b.table.add(name, r.String(), "", true)
	}
	return b.remove("host", "guest", "copy", "out")
}

// extractExcluded takes the CPU time of an extract that finds that makedumpfile
// left the guest's memory out of a dump of 1 TiB, and fails.
func (b *bench) extractExcluded() error {
	const mode = "extract, excluded memory"
	dump := b.path("excluded")
	if _, err := b.exec("cp", "--sparse=always", filepath.Join(b.made, dumps[0].kdump), dump); err != nil {
		return err
	}
	if err := widen(dump, 1<<40); err != nil {
		return err
	}
	took := make([]float64, min(b.runs, 5))
	for i := range took {
		c := b.command(filepath.Join(b.made, "vmcsnote"), "extract", "--guest", "0", "-o", b.path("out"), dump)
		_, err := pipeline(c)
		if c.ProcessState == nil || c.ProcessState.ExitCode() != 1 {
			return errors.Errorf("%v, expected that nothing can be written", err)
		}
		b.peaks.note(mode, maxGuests, c)
		took[i] = (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	}
	b.table.atMost("CPU time of "+mode, ratioOf(took).median, 1, "%.2f s")
	return b.remove("excluded", "out")
}
