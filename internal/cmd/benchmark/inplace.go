package main

import (
	"fmt"
	"path/filepath"
	"time"
)

// sizes measures that a change in place takes no longer with 64 GiB of memory.
// Nothing but the note and, by evict, a segment of holes is written, so what is
// compared is headers, syncs and whatever might depend on the size.
func (b *bench) sizes(placement, kernel string) error {
	mode := "in place by " + placement
	inject := func(suffix string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			if err := b.fresh(b.path(kernel+suffix), b.path("core")); err != nil {
				return 0, err
			}
			return b.inject(mode, kernel, b.path("core"), "--placement", placement)
		}
	}
	// Twice as many pairs: they are short, and syncs take as long as they like.
	r, err := pairs(2*b.runs, inject(large), inject(thin))
	if err != nil {
		return err
	}
	b.table.ratioAtMost(mode+", 64 GiB / 423 MB", r, 1.2)
	return nil
}

// evict compares evicting the first segment, all data, with writing as many
// bytes to a file and to the disk.
func (b *bench) evict() error {
	const kernel = "deb-t1"
	loads, err := loads(b.path(kernel + heavy))
	if err != nil {
		return err
	}
	inject := func() (time.Duration, error) {
		if err := b.fresh(b.path(kernel+heavy), b.path("core")); err != nil {
			return 0, err
		}
		return b.inject("in place by evict", kernel, b.path("core"), "--placement", "evict")
	}
	dd := func() (time.Duration, error) {
		if err := b.remove("segment"); err != nil {
			return 0, err
		}
		return b.exec("dd", "if="+b.path(kernel+heavy), "of="+b.path("segment"), "bs=1M", "iflag=skip_bytes,count_bytes",
			fmt.Sprintf("skip=%d", loads[0].Off), fmt.Sprintf("count=%d", loads[0].Filesz), "conv=fsync")
	}
	r, err := pairs(b.runs, inject, dd)
	if err != nil {
		return err
	}
	b.table.ratioAtMost("in place by evict / dd conv=fsync of that segment", r, 1.5)
	return b.remove("segment", "core")
}

// split takes the CPU time of splitting the first segment of a core of 64 GiB:
// some pages are written, whatever the size. How long the disk takes for the
// syncs is left out.
func (b *bench) split() error {
	const mode = "in place by split"
	r, err := b.starts(mode, b.path("deb-t1"+large), "split")
	if err != nil {
		return err
	}
	b.table.ratioAtMost(mode+", 64 GiB: CPU time / vmcsnote version", r, maxStarts)
	return b.remove("core")
}

// qemuSplit compares splitting the first segment of QEMU's core of 192 MiB, on
// the disk when it is done, with a cp of that core and a sync.
func (b *bench) qemuSplit() error {
	const kernel = "deb-d1"
	whole := b.path("whole")
	if _, err := b.exec("cp", "--sparse=always", filepath.Join(b.made, kernel+".qemu-elf"+thin), whole); err != nil {
		return err
	}
	if err := fill(whole, dataShare); err != nil {
		return err
	}
	inject := func() (time.Duration, error) {
		if err := b.fresh(whole, b.path("core")); err != nil {
			return 0, err
		}
		return b.inject("in place by split, QEMU", kernel, b.path("core"), "--placement", "split")
	}
	cp := func() (time.Duration, error) {
		if err := b.remove("copy"); err != nil {
			return 0, err
		}
		start := time.Now()
		if _, err := b.exec("cp", whole, b.path("copy")); err != nil {
			return 0, err
		}
		err := sync(b.dir)
		return time.Since(start), err
	}
	r, err := pairs(b.runs, inject, cp)
	if err != nil {
		return err
	}
	b.table.ratioAtMost("in place by split, QEMU's core of 192 MiB / cp and sync", r, 0.5)
	return b.remove("whole", "core", "copy")
}

// manyHeaders takes the peak memory on the core with the most program headers
// that is known: QEMU wrote one for each run of a guest's page tables.
func (b *bench) manyHeaders() error {
	const kernel = "deb-d1"
	const mode = "65,801 program headers, "
	for range min(b.runs, 5) {
		if err := b.fresh(b.made+"/deb-d1.qemu-elf-p.thin", b.path("core")); err != nil {
			return err
		}
		if _, err := b.inject(mode+"-o", kernel, b.path("core"), "-o", b.path("out")); err != nil {
			return err
		}
		if _, err := b.stream(mode+"stream", kernel, b.path("core")); err != nil {
			return err
		}
		if _, err := b.inject(mode+"in place", kernel, b.path("core")); err != nil {
			return err
		}
		if err := b.remove("core", "out"); err != nil {
			return err
		}
	}
	return nil
}
