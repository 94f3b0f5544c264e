// Package record reads and writes records. A record is a file that keeps a
// running kernel's VMCSINFO for the kernel that will save its dump: where the
// note lies in memory, in which boot, and the note itself.
//
// A record is text, one "key: value" a line, so that a shell can read it
// without this program:
//
//	vmcsnote-record 1
//	pair: 1cba8c0 2000
//	release: 6.1.0-56-amd64
//	boot-id: 5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1
//	time: 2026-11-23T04:35:00Z
//	note: CQAAAHsSAAAAAAAAVk1DU0lORk8AAAAAUkVWSVNJT05fSUQ9ZApGSUVMRChQSU5fQkFTRURfVk1f
//	note: …
//	sha256: 9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab
//
// The note is in base64, cut into lines: sed -n 's/^note: //p' FILE | base64 -d
// gives it back. There is no note line where the kernel's memory could not be
// read when it was recorded. The checksum is that of all lines above it, as
// sha256sum prints it.
//
// Where the kernel publishes no note, and a file of layouts by processor has
// served (internal/cpulayouts), the record is of version 2: a line "layout:
// FILE" stands in the pair's place, and the note is there.
//
// One record has one form: the keys are these, in this order, and anything else
// is refused, unknown keys too. A key that a reader skips could be the one that
// says not to use the pair; whoever adds one raises the version in the first
// line.
package record

import (
	"time"

	"vmcsnote/sysfs"
)

// Limits.
const (
	MaxSize = 2 << 20 // bytes of a whole record
	maxNote = 1 << 20 // bytes of the note
)

// Record is what is kept of one boot. The pair holds for that boot only, since
// the kernel's place in memory is random; the note holds for the machine, as
// long as it has the same CPU and microcode.
type Record struct {
	Pair    sysfs.Pair // zero if the note is from a file of layouts
	Layout  string     // that file, below the root; "" with a pair
	Release string     // the kernel's, as uname -r prints it
	BootID  string     // as in /proc/sys/kernel/random/boot_id
	Time    time.Time  // when it was recorded, to the second
	Note    []byte     // the complete ELF note, nil if there is none
}

// When returns the time of the record for people, to the minute.
func (r Record) When() string { return r.Time.UTC().Format("2006-01-02 15:04 UTC") }
