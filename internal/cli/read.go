package cli

import (
	"bufio"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A span is memory that --read asks for.
type span struct {
	virtual    bool
	addr, size uint64
}

// maxRead bounds what --read prints: it is for people.
const maxRead = 16 << 20

// parseSpan reads gpa:0xADDR:LENGTH or gva:0xADDR:LENGTH. Numbers are decimal,
// or hexadecimal with 0x.
func parseSpan(s string) (span, error) {
	bad := usagef("--read %q: expected gpa:0xADDR:LENGTH or gva:0xADDR:LENGTH", s)
	parts := strings.Split(s, ":")
	if len(parts) != 3 || parts[0] != "gpa" && parts[0] != "gva" {
		return span{}, bad
	}
	addr, err1 := strconv.ParseUint(parts[1], 0, 64)
	size, err2 := strconv.ParseUint(parts[2], 0, 64)
	switch {
	case err1 != nil || err2 != nil:
		return span{}, bad
	case size == 0 || size > maxRead:
		return span{}, usagef("--read %q: a length of 1 to %d bytes", s, maxRead)
	case addr > math.MaxUint64-(size-1):
		return span{}, usagef("--read %q: beyond the last address", s)
	}
	return span{parts[0] == "gva", addr, size}, nil
}

// dump prints the guest's memory that --read asks for.
func (f *guestsFlags) dump(e *env, h *guestlist.Host) error {
	if len(h.Machines) == 0 {
		return errNone(h)
	}
	if len(h.Machines) != 1 {
		return hint.With(errors.Errorf("--read needs --guest: the dump has %s", message.Plural(len(h.Machines), "virtual machine")), "use --guest N, and --vcpu N for gva")
	}
	m := h.Machines[0]
	var r physmem.Reader
	var err error
	switch {
	case f.span.virtual && len(m.VCPUs) == 0:
		err = errors.Errorf("virtual machine %s has no vCPU", m.ID())
	case f.span.virtual:
		r, err = m.Virtual(m.VCPUs[0])
	default:
		r, err = m.Memory()
	}
	if errors.Is(err, guest.ErrNoEPT) {
		return hint.With(err, "gva: reads it by virtual address, through the hypervisor's shadow page tables")
	}
	if err != nil {
		return errEncrypted(err)
	}
	d := dumper{w: bufio.NewWriter(e.Stdout)}
	d.dump(r, f.span)
	if err := d.w.Flush(); err != nil {
		return err
	}
	return e.missing(d.lost, d.read)
}

// A dumper prints memory as hexdump -C does: lines of 16 bytes, a star for
// lines that repeat the one above. What is missing has a line that says how
// much and why.
type dumper struct {
	w    *bufio.Writer // keeps its first error
	read uint64        // bytes that there were
	lost []loss

	last    [16]byte // line, whole
	repeats int      // lines printed as last: 0, 1, or more with a star
	gap     loss     // missing bytes not printed yet
}

// A loss is memory that could not be read for one reason.
type loss struct {
	first, size uint64 // bytes
	pages       int    // of 4 KiB, in part or whole
	why         string
}

func (d *dumper) dump(r physmem.Reader, s span) {
	buf := make([]byte, 4096)
	for done := uint64(0); done < s.size; {
		addr := s.addr + done
		b := buf[:min(s.size-done, 4096-addr%4096)]
		done += uint64(len(b))
		n, err := r.ReadPhys(b, addr)
		d.read += uint64(n)
		for i := 0; i < n; i += 16 {
			d.line(addr+uint64(i), b[i:min(i+16, n)])
		}
		if n < len(b) {
			d.miss(loss{addr + uint64(n), uint64(len(b) - n), 1, reason(err)})
		}
	}
	d.closeGap()
	fmt.Fprintf(d.w, "%016x\n", s.addr+s.size)
}

// miss adds to the gap what is missing next, and counts it.
func (d *dumper) miss(l loss) {
	if d.gap.why != l.why || d.gap.first+d.gap.size != l.first {
		d.closeGap()
		d.gap = loss{first: l.first, why: l.why}
	}
	d.gap.size += l.size
	i := slices.IndexFunc(d.lost, func(k loss) bool { return k.why == l.why })
	if i < 0 && len(d.lost) == maxReasons {
		i = maxReasons - 1
	}
	if i < 0 {
		d.lost = append(d.lost, l)
		return
	}
	d.lost[i].pages++
	d.lost[i].size += l.size
}

// maxReasons bounds how many reasons are told apart.
const maxReasons = 16

func (d *dumper) closeGap() {
	if d.gap.size == 0 {
		return
	}
	fmt.Fprintf(d.w, "%016x  %s missing: %s\n", d.gap.first, message.Plural(int(d.gap.size), "byte"), d.gap.why)
	d.gap, d.repeats = loss{}, 0
}

func (d *dumper) line(addr uint64, b []byte) {
	d.closeGap()
	if len(b) == 16 && d.repeats > 0 && [16]byte(b) == d.last {
		if d.repeats++; d.repeats == 2 {
			d.w.WriteString("*\n")
		}
		return
	}
	if d.repeats = 0; len(b) == 16 {
		d.last, d.repeats = [16]byte(b), 1
	}
	fmt.Fprintf(d.w, "%016x ", addr)
	for i := range 16 {
		if i == 8 {
			d.w.WriteByte(' ')
		}
		if i < len(b) {
			fmt.Fprintf(d.w, " %02x", b[i])
		} else {
			d.w.WriteString("   ")
		}
	}
	d.w.WriteString("  |")
	for _, c := range b {
		if c < ' ' || c > '~' {
			c = '.'
		}
		d.w.WriteByte(c)
	}
	d.w.WriteString("|\n")
}

// reasons are why a guest's memory may be missing. A person can tell from them
// whether there is a cure.
var reasons = []error{guest.ErrSwapped, guest.ErrNotPresent, guest.ErrMMIO, guest.ErrNotMapped, guest.ErrNotCanonical, guest.ErrReserved,
	vmcore.ErrExcluded, vmcore.ErrOtherPiece, vmcore.ErrTruncated, vmcore.ErrNoMemory}

// reason says in a few words why memory could not be read.
func reason(err error) string {
	why := err.Error()
	for _, r := range reasons {
		if errors.Is(err, r) {
			why = r.Error()
			break
		}
	}
	var entry *guest.EntryError
	if errors.As(err, &entry) && entry.Entry == 0 && !errors.Is(err, guest.ErrNotMapped) {
		return entry.Format + ": " + why
	}
	return why
}

// missing tells what --read could not print. Having read nothing is an error.
func (e *env) missing(lost []loss, read uint64) error {
	for _, l := range lost {
		e.Say("warning: %s could not be read, the first at %#x: %s", message.Plural(l.pages, "page"), l.first, l.why)
	}
	if read == 0 {
		return errors.New("none of it could be read")
	}
	return nil
}

// errEncrypted adds what can be done to the error of a machine whose memory is
// encrypted.
func errEncrypted(err error) error {
	if !errors.Is(err, guest.ErrEncrypted) {
		return err
	}
	return hint.With(err, "only its processor has the key; --encrypted takes the ciphertext as it is: only pages that the guest shares with its host are readable")
}
