package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pkg/errors"
)

// fresh makes to a copy of the sparse file from that is on disk.
func (b *bench) fresh(from, to string) error {
	if _, err := b.exec("cp", "--sparse=always", "--remove-destination", from, to); err != nil {
		return err
	}
	return sync(b.dir)
}

// remove removes files of ours that may be there, and waits until their blocks
// are free.
func (b *bench) remove(names ...string) error {
	for _, name := range names {
		if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return errors.WithStack(err)
		}
	}
	return sync(b.dir)
}

// copies compares -o with cp. Neither waits for the disk.
func (b *bench) copies() error {
	const kernel = "deb-t1"
	core := b.path(kernel + heavy)
	inject := func() (time.Duration, error) {
		if err := b.remove("out"); err != nil {
			return 0, err
		}
		return b.inject("-o", kernel, core, "-o", b.path("out"))
	}
	cp := func() (time.Duration, error) {
		if err := b.remove("copy"); err != nil {
			return 0, err
		}
		return b.exec("cp", "--sparse=auto", core, b.path("copy"))
	}
	r, err := pairs(b.runs, inject, cp)
	if err != nil {
		return err
	}
	b.table.ratioAtMost("-o / cp --sparse=auto", r, 1.3)
	if err := sync(b.dir); err != nil {
		return err
	}
	size, blocks, err := statBlocks(b.path("out"))
	if err != nil {
		return err
	}
	cpSize, cpBlocks, err := statBlocks(b.path("copy"))
	if err != nil {
		return err
	}
	// The notes need the room that everything after them was shifted by.
	extra := blocks - cpBlocks - (size-cpSize)/512
	b.table.atMost("-o: st_blocks beyond cp's and the notes' own", float64(extra), 0, "%.0f")
	return b.remove("out", "copy")
}

// statBlocks returns the size of a file in bytes, and its blocks of 512.
func statBlocks(path string) (size, blocks int64, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, 0, errors.Wrap(err, path)
	}
	return st.Size, st.Blocks, nil
}

// streams compares passing a core on with what cat takes in vmcsnote's place.
// Both have a cat on either side: one reads the core from the page cache, the
// other drops what comes. So as many processes move as many bytes through as
// many pipes, and each pipe holds what pipes hold by default.
func (b *bench) streams() error {
	const kernel = "deb-t1"
	core := b.path(kernel + heavy)
	cat := func() (time.Duration, error) {
		return pipeline(b.command("cat", core), b.command("cat"), b.command("cat"))
	}
	inject := func() (time.Duration, error) { return b.stream("stream", kernel, core) }
	r, err := pairs(b.runs, cat, inject)
	if err != nil {
		return err
	}
	b.table.ratioAtLeast("throughput of a stream / cat in its place", r, 0.8)
	return nil
}

// flattened compares passing a flattened dump on with a cat in vmcsnote's
// place, and writing it to a file with makedumpfile -R, which writes the plain
// form of the dump, without the note.
func (b *bench) flattened() error {
	const kernel, mode = "deb-t1", "flattened stream"
	flat := b.path("flat")
	if _, err := b.exec(filepath.Join(b.made, "pages"), "flatten", b.path(kernel+heavy), flat); err != nil {
		return err
	}
	between := func(c *exec.Cmd) (time.Duration, error) {
		all := []*exec.Cmd{b.command("cat", flat), c, b.command("cat")}
		_, err := pipeline(all...)
		return sum(all), err
	}
	r, err := pairs(b.runs,
		func() (time.Duration, error) { return between(b.command("cat")) },
		func() (time.Duration, error) {
			c := alone(b.tool(kernel, "-", "-o", "-"))
			took, err := between(c)
			b.peaks.note(mode, maxPeak, c)
			return took, err
		})
	if err != nil {
		return err
	}
	b.table.ratioAtLeast("CPU time of cat in its place / "+mode, r, 0.35)

	name := "CPU time of makedumpfile -R / " + mode + ", -o"
	if _, err := exec.LookPath("makedumpfile"); err != nil {
		b.table.skip(name, "makedumpfile is not installed")
		return b.remove("flat")
	}
	piped := func(c *exec.Cmd) (time.Duration, error) {
		if err := b.remove("out"); err != nil {
			return 0, err
		}
		_, err := pipeline(b.command("cat", flat), c)
		return sum([]*exec.Cmd{c}), err
	}
	r, err = pairs(b.runs,
		func() (time.Duration, error) { return piped(b.command("makedumpfile", "-R", b.path("out"))) },
		func() (time.Duration, error) { return piped(alone(b.tool(kernel, "-", "-o", b.path("out")))) })
	if err != nil {
		return err
	}
	b.table.ratioAtLeast(name, r, 1.1)
	return b.remove("flat", "out")
}
