package main

import (
	"fmt"
	"path/filepath"

	"github.com/pkg/errors"
)

const (
	// maxStarts bounds the CPU time of a change in place, in that of starting
	// vmcsnote: milliseconds differ from machine to machine.
	maxStarts = 4
	// smallDump is a real dump of 512 MiB of memory, filtered to 21,674 pages.
	smallDump = "deb-t1.kdump-zstd"
	// The large dump has a million pages, a run here and there in 1 TiB of
	// memory.
	largePages, largeHole = 1 << 20, 65280
)

// kdumpInPlace takes the CPU time of moving the notes of a kdump-compressed
// dump to the end of the file: headers, the last descriptors and notes are all
// there is to read, whatever the size.
func (b *bench) kdumpInPlace() error {
	const mode = "in place by end, kdump"
	if err := b.makeDump("raw", largePages, largeHole, "large"); err != nil {
		return err
	}
	for _, dump := range []struct{ name, path string }{
		{"21,674 pages", filepath.Join(b.made, smallDump)},
		{"1,048,576 pages of 1 TiB", b.path("large")},
	} {
		r, err := b.starts(mode, dump.path, "end")
		if err != nil {
			return err
		}
		b.table.ratioAtMost(mode+", "+dump.name+": CPU time / vmcsnote version", r, maxStarts)
	}
	return b.remove("large", "core")
}

// starts returns the CPU time of a change in place of a dump of kernel deb-t1,
// in that of starting vmcsnote.
func (b *bench) starts(mode, dump, placement string) (ratio, error) {
	starts := make([]float64, b.runs)
	for i := range starts {
		if err := b.fresh(dump, b.path("core")); err != nil {
			return ratio{}, err
		}
		c := b.tool("deb-t1", b.path("core"), "--placement", placement)
		took, err := cpu(c)
		if err != nil {
			return ratio{}, err
		}
		b.peaks.note(mode, maxPeak, c)
		start, err := cpu(b.command(filepath.Join(b.made, "vmcsnote"), "version"))
		if err != nil {
			return ratio{}, err
		}
		starts[i] = float64(took) / float64(start)
	}
	return ratioOf(starts), nil
}

// makeDump makes a dump with that many pages, with holes between runs of them,
// which has the headers of the small one and the note of its kernel.
func (b *bench) makeDump(method string, pages, hole int, name string) error {
	_, err := b.exec(filepath.Join(b.made, "pages"), "make", method, fmt.Sprint(pages), fmt.Sprint(hole),
		filepath.Join(b.made, smallDump), filepath.Join(b.made, "deb-t1.blob"), b.path(name))
	return errors.Wrap(err, "make a dump")
}
