// Powercut makes the disks that a power failure may leave, from the log of what
// a machine wrote, and runs a check on each.
//
//	powercut LOG DISK WORK COMMAND...
//
// LOG is QEMU's blklogwrites, in the form of Linux's dm-log-writes: every write
// to the disk in order, and every flush. DISK is the disk as it was before. A
// disk may keep what it is given in a cache until it is flushed, in any order,
// and loses by sectors. So for each flush WORK becomes DISK with all the writes
// before the flush before it, then with some of those in between too: none, a
// random half, a random half of the sectors. COMMAND is run each time; it may
// change WORK. Prints the number of disks, and what COMMAND prints when it
// fails; then the exit status is 1.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
)

// dm-log-writes.txt in the kernel's documentation, and
// drivers/md/dm-log-writes.c: all numbers are little endian.
const (
	magic = 0x6a736677736872

	flagFlush   = 1 << 0
	flagFUA     = 1 << 1 // durable when it returns, alone
	flagDiscard = 1 << 2
)

// A superblock is what the log begins with; it fills a sector.
type superblock struct {
	Magic, Version, Entries uint64
	SectorSize              uint32
}

// An entry takes a sector of the log, and its data follow.
type entry struct {
	Sector, Sectors, Flags, DataLen uint64
}

// A write is one write to the disk, and where its data are in the log.
type write struct {
	at, off, size int64
	fua           bool
}

// A replay has the log, cut at the flushes.
type replay struct {
	log    *os.File
	sector int64
	epochs [][]write
}

func main() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "usage: powercut LOG DISK WORK COMMAND...")
		os.Exit(2)
	}
	failed, err := run(os.Args[1], os.Args[2], os.Args[3], 1, os.Args[4:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
	}
	if err != nil || failed > 0 {
		os.Exit(1)
	}
}

// run makes the disks; the same seed makes the same ones. It returns how many
// COMMAND refused.
func run(log, disk, work string, seed uint64, command ...string) (failed int, err error) {
	f, err := os.Open(log)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := &replay{log: f}
	if err := r.read(); err != nil {
		return 0, err
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	disks := 0
	var durable []write
	for i, epoch := range r.epochs {
		variants := r.lost(epoch, rnd)
		for n, cached := range variants {
			if err := exec.Command("cp", "--sparse=always", disk, work).Run(); err != nil {
				return failed, err
			}
			if err := r.apply(work, append(durable[:len(durable):len(durable)], cached...)); err != nil {
				return failed, err
			}
			disks++
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				failed++
				fmt.Printf("after flush %d of %d, variant %d: %v\n%s", i, len(r.epochs), n, err, out)
			}
		}
		durable = append(durable, epoch...)
	}
	fmt.Printf("%d flushes, %d writes, %d disks, %d bad\n", len(r.epochs), len(durable), disks, failed)
	return failed, nil
}

// lost returns which of the writes since the last flush may be on the disk, in
// several variants.
func (r *replay) lost(epoch []write, rnd *rand.Rand) [][]write {
	var forced, half, torn []write
	for _, w := range epoch {
		if w.fua {
			forced = append(forced, w)
		}
		if w.fua || rnd.IntN(2) == 0 {
			half = append(half, w)
		}
		for o := int64(0); o < w.size; o += r.sector {
			if w.fua || rnd.IntN(2) == 0 {
				torn = append(torn, write{at: w.at + o, off: w.off + o, size: r.sector})
			}
		}
	}
	if len(epoch) == 0 {
		return [][]write{nil}
	}
	return [][]write{forced, half, torn}
}

// read cuts the log at the flushes. What follows the last one is left out.
func (r *replay) read() error {
	var sb superblock
	if err := binary.Read(io.NewSectionReader(r.log, 0, 1<<12), binary.LittleEndian, &sb); err != nil {
		return err
	}
	if sb.Magic != magic || sb.Version != 1 || sb.SectorSize == 0 {
		return fmt.Errorf("magic %#x, version %d, sectors of %d bytes: no log of writes", sb.Magic, sb.Version, sb.SectorSize)
	}
	r.sector = int64(sb.SectorSize)
	off := r.sector
	var epoch []write
	for range sb.Entries {
		var e entry
		if err := binary.Read(io.NewSectionReader(r.log, off, r.sector), binary.LittleEndian, &e); err != nil {
			return err
		}
		off += r.sector
		if e.Flags&flagFlush != 0 {
			r.epochs = append(r.epochs, epoch)
			epoch = nil
		}
		if size := int64(e.Sectors) * r.sector; size > 0 && e.Flags&flagDiscard == 0 {
			epoch = append(epoch, write{at: int64(e.Sector) * r.sector, off: off, size: size, fua: e.Flags&flagFUA != 0})
			off += size
		}
	}
	return nil
}

// apply puts writes on a disk.
func (r *replay) apply(disk string, writes []write) error {
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, w := range writes {
		if _, err := io.Copy(io.NewOffsetWriter(f, w.at), io.NewSectionReader(r.log, w.off, w.size)); err != nil {
			return err
		}
	}
	return nil
}
