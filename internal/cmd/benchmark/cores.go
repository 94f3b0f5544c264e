package main

import (
	"debug/elf"
	"encoding/binary"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/pkg/errors"
)

// Suffixes of the cores that are made of KERNEL.thin, the headers of a real
// core around memory that is a hole.
const (
	thin  = ".thin"
	large = ".large" // the last PT_LOAD is so large that the file has 64 GiB
	heavy = ".heavy" // as much data as the real core had
)

const (
	largeSize = 64 << 30
	blockSize = 4096
	// dataShare of the real core's blocks were not zero.
	dataShare = 0.41
)

// makeCores puts the cores into the directory that is measured in.
func (b *bench) makeCores() error {
	for _, kernel := range []string{"deb-t1", "deb-t4-smp4"} {
		for _, suffix := range []string{thin, large} {
			if _, err := b.exec("cp", "--sparse=always", filepath.Join(b.made, kernel+thin), b.path(kernel+suffix)); err != nil {
				return err
			}
		}
		if err := grow(b.path(kernel+large), largeSize); err != nil {
			return err
		}
	}
	if _, err := b.exec("cp", "--sparse=always", b.path("deb-t1"+thin), b.path("deb-t1"+heavy)); err != nil {
		return err
	}
	return fill(b.path("deb-t1"+heavy), dataShare)
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// grow makes the last PT_LOAD of the little-endian ELF64 core at path larger,
// so that the file has size bytes.
func grow(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	var h elf.Header64
	if err := binary.Read(f, binary.LittleEndian, &h); err != nil {
		return errors.Wrap(err, path)
	}
	at := int64(h.Phoff) + int64(h.Phnum-1)*int64(h.Phentsize)
	var p elf.Prog64
	if err := binary.Read(io.NewSectionReader(f, at, int64(unsafe.Sizeof(p))), binary.LittleEndian, &p); err != nil {
		return errors.Wrap(err, path)
	}
	p.Filesz = uint64(size) - p.Off
	p.Memsz = p.Filesz
	if err := binary.Write(io.NewOffsetWriter(f, at), binary.LittleEndian, p); err != nil {
		return errors.Wrap(err, path)
	}
	return errors.WithStack(f.Truncate(size))
}

// fill writes bytes that no file system can compress into that share of the
// blocks of the core's PT_LOADs: into all of the first, the kernel's text, and
// into the others in runs.
func fill(path string, share float64) error {
	f, loads, err := openLoads(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var all float64
	for _, p := range loads {
		all += float64(p.Filesz)
	}
	text := float64(loads[0].Filesz)
	rest := (all*share - text) / (all - text)
	rnd := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, maxRun*blockSize)
	for i, p := range loads {
		share := rest
		if i == 0 {
			share = 1
		}
		for first, n := range dataRuns(rnd, int64(p.Filesz)/blockSize, share) {
			data := buf[:n*blockSize]
			rnd.Read(data)
			if _, err := f.WriteAt(data, int64(p.Off)+first*blockSize); err != nil {
				return errors.WithStack(err)
			}
		}
	}
	return errors.WithStack(f.Sync())
}

// maxRun is the length of the longest run, in blocks.
const maxRun = 64

// dataRuns yields runs of 1 to 64 blocks, by their first block and length, that
// take about that share of n blocks.
func dataRuns(src rand.Source, n int64, share float64) iter.Seq2[int64, int64] {
	rnd := rand.New(src)
	return func(yield func(int64, int64) bool) {
		for at := int64(0); at < n; {
			run := min(n-at, maxRun>>rnd.IntN(7))
			if rnd.Float64() < share && !yield(at, run) {
				return
			}
			at += run
		}
	}
}

// loads returns the PT_LOADs of a core.
func loads(path string) ([]elf.ProgHeader, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, errors.Wrap(err, path)
	}
	defer f.Close()
	var ps []elf.ProgHeader
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			ps = append(ps, p.ProgHeader)
		}
	}
	if len(ps) < 2 {
		return nil, errors.Errorf("%s: %d PT_LOADs, expected some", path, len(ps))
	}
	return ps, nil
}

// openLoads opens a core for writing, and returns its PT_LOADs, too.
func openLoads(path string) (*os.File, []elf.ProgHeader, error) {
	ps, err := loads(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return f, ps, errors.WithStack(err)
}

// plant writes the note in the file blob, in whole pages, over where the last
// PT_LOAD of the core ends.
func plant(path, blob string) error {
	note, err := os.ReadFile(blob)
	if err != nil {
		return errors.WithStack(err)
	}
	f, loads, err := openLoads(path)
	if err != nil {
		return err
	}
	defer f.Close()
	last := loads[len(loads)-1]
	pages := uint64(len(note)+blockSize-1) / blockSize * blockSize
	if pages > last.Filesz {
		return errors.Errorf("%s: %d bytes in the last PT_LOAD, too few for the note", path, last.Filesz)
	}
	_, err = f.WriteAt(note, int64(last.Off+last.Filesz-pages))
	return errors.WithStack(err)
}
