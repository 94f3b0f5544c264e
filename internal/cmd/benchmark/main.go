// Benchmark measures vmcsnote in a directory of one file system, in ratios to
// what else moves the same bytes there (cp, dd, cat), to what else reads the
// same pages, or to itself on a larger core. scripts/bench builds and runs it:
//
//	scripts/bench --dir /var/tmp --runs 15
//
// Absolute times depend on the machine and are not printed, but for those that
// are bounded on any. The two sides of a ratio run by turns, with the page
// cache warm and nothing left to write back, and the median of the pairwise
// ratios counts.
//
// The cores are the headers of real ones around memory that is a hole, or that
// is filled like that of the real core. Programs of their own unpack the cores
// and make the pages of large dumps: the kernel reports for each process at
// least the peak memory of the process that started it, so this one must stay
// small.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// maxRuns keeps the medians' cost in bounds.
const maxRuns = 1000

func main() {
	dir := pflag.StringP("dir", "d", os.TempDir(), "measure in `DIR`: 3 GB are needed, and a file system on a disk")
	runs := pflag.IntP("runs", "n", 15, "take the median of `N` pairs")
	only := pflag.String("only", "", "run only the cases whose name contains `TEXT`")
	made := pflag.String("made", "", "`DIR` with vmcsnote and the unpacked cores")
	pflag.CommandLine.MarkHidden("made")
	pflag.Parse()
	if pflag.NArg() > 0 || *made == "" || *runs < 1 || *runs > maxRuns {
		fmt.Fprintln(os.Stderr, "usage: scripts/bench [--dir DIR] [--runs N] [--only TEXT]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, *dir, *made, *only, *runs)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// A bench is one run of all cases.
type bench struct {
	ctx  context.Context
	made string // directory with vmcsnote and the unpacked cores
	dir  string // directory of our own on the file system that is measured
	runs int

	table table
	peaks peaks
}

// run runs the cases, prints the table, and reports whether all bounds were
// kept.
func run(ctx context.Context, dir, made, only string, runs int) (bool, error) {
	dir, err := os.MkdirTemp(dir, "vmcsnote-bench-")
	if err != nil {
		return false, errors.WithStack(err)
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, made: made, dir: dir, runs: runs}
	if err := b.makeCores(); err != nil {
		return false, errors.Wrap(err, "make the cores")
	}
	fs, err := fileSystem(dir)
	if err != nil {
		return false, err
	}
	fmt.Printf("%d CPUs, %s, --runs %d; ratios are medians of pairs, the quartiles in brackets\n\n", runtime.NumCPU(), fs, runs)
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"in place by slack", func() error { return b.sizes("slack", "deb-t4-smp4") }},
		{"in place by split", b.split},
		{"in place by split, QEMU", b.qemuSplit},
		{"in place by evict", func() error { return b.sizes("evict", "deb-t1") }},
		{"in place by evict", b.evict},
		{"-o", b.copies},
		{"stream", b.streams},
		{"flattened stream", b.flattened},
		{"in place by end, kdump", b.kdumpInPlace},
		{"--search, ELF", b.searchELF},
		{"--search, sparse", b.searchSparse},
		{"--search, zlib", func() error { return b.searchKDump("zlib", 0.8, 0.65) }},
		{"--search, zstd", func() error { return b.searchKDump("zstd", 0.7, 1) }},
		{"guests, ELF", b.guestsELF},
		{"guests, zlib", func() error { return b.guestsKDump("zlib") }},
		{"guests, zstd", func() error { return b.guestsKDump("zstd") }},
		{"guests, 100,000 pages", b.crowd},
		{"guests by KVM's structures", b.kvmHosts},
		{"guests, 400 machines", func() error { return b.manyMachines(400, 8, 64<<20, "guests") }},
		{"guests, 1000 machines", func() error { return b.manyMachines(1000, 8, 128<<20, "guests", "guests -v", "guests --json") }},
		{"guests, 8192 machines", func() error { return b.manyMachines(8192, 1, 128<<20, "guests", "guests -v", "guests --json") }},
		{"decompressors", b.decompressors},
		{"extract", b.extract},
		{"extract by KVM's structures", b.extractKVM},
		{"extract, excluded memory", b.extractExcluded},
		{"XFS", func() error { return b.clones("XFS", "mkfs.xfs", "-q", "-m", "reflink=1") }},
		{"btrfs", func() error { return b.clones("btrfs", "mkfs.btrfs", "-q") }},
		{"65,801 program headers", b.manyHeaders},
		{"stripped static binary", b.binary},
	} {
		if !strings.Contains(c.name, only) {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench:", c.name)
		if err := c.run(); err != nil {
			b.table.add(c.name, err.Error(), "no error", false)
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	b.peaks.addTo(&b.table)
	return b.table.write(os.Stdout)
}

// binary bounds the size of the stripped static binary.
func (b *bench) binary() error {
	info, err := os.Stat(filepath.Join(b.made, "vmcsnote"))
	if err != nil {
		return errors.WithStack(err)
	}
	b.table.atMost("stripped static binary", float64(info.Size())/(1<<20), 6, "%.1f MiB")
	return nil
}

func fileSystem(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", errors.Wrap(err, dir)
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4", nil
	case unix.XFS_SUPER_MAGIC:
		return "XFS", nil
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", nil
	case unix.TMPFS_MAGIC:
		return "tmpfs (in memory: nothing here is worth comparing)", nil
	}
	return fmt.Sprintf("file system %#x", s.Type), nil
}
