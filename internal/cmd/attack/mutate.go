//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore"
)

// A subject is a golden core, and where it has numbers that a reader uses.
type subject struct {
	name  string
	b     []byte
	order binary.ByteOrder
	hot   []span
}

type span struct{ from, to int }

// limits are numbers that arithmetic stumbles over.
var limits = []uint64{0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 55, 56, 57, 63, 64, 255, 256, 511, 512, 4095, 4096, 4097, 65534, 65535,
	65536, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40, 1<<52 - 1, 1 << 52, 1<<63 - 4096, 1<<63 - 1, 1 << 63, 1<<64 - 4096,
	1<<64 - 2, 1<<64 - 1}

// subjects loads the cores that are mutated: each container, and each way to
// compress pages.
func subjects() ([]subject, error) {
	var all []subject
	for name, hot := range map[string]func([]byte) []span{
		"kernel-slack": elfHot, "deb-d1.qemu-range": elfHot, "vmcoredd": elfHot, "eraseinfo": elfHot, "sections-after": elfHot,
		"xnum-few": elfHot, "cloud-c1.elf31": elfHot,
		"kdump/cloud-c1.kdump-zlib": kdumpHot, "kdump/cloud-c1.kdump-lzo": kdumpHot, "kdump/cloud-c1.kdump-snappy": kdumpHot,
		"kdump/cloud-c1.kdump-zstd": kdumpHot,
		"flat/cloud-c1.flat-elf31":  flatHot, "flat/cloud-c1.flat-zlib": flatHot,
	} {
		b, err := bytesOf(name)
		if err != nil {
			return nil, err
		}
		s := subject{name, b, binary.LittleEndian, hot(b)}
		if strings.HasPrefix(name, "flat/") {
			s.order = binary.BigEndian
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b subject) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// elfHot is the ELF header, the program headers, and the notes' headers, of a
// 64-bit core.
func elfHot(b []byte) []span {
	le := binary.LittleEndian
	phoff := int(le.Uint64(b[32:]))
	hot := []span{{16, 64}, {phoff, phoff + 112}, {phoff, min(len(b), phoff+56*int(le.Uint16(b[56:])))}}
	if shoff := int(le.Uint64(b[40:])); shoff > 0 && shoff+64 <= len(b) {
		hot = append(hot, span{shoff, shoff + 64})
	}
	off, size := int(le.Uint64(b[phoff+8:])), int(le.Uint64(b[phoff+32:]))
	for at := off; at+12 <= off+size && at+24 <= len(b); {
		hot = append(hot, span{at, at + 24})
		at += 12 + (int(le.Uint32(b[at:]))+3)&^3 + (int(le.Uint32(b[at+4:]))+3)&^3
	}
	return hot
}

// kdumpHot is the two headers, the bitmaps and the first page descriptors.
func kdumpHot(b []byte) []span {
	le := binary.LittleEndian
	block := int(le.Uint32(b[428:]))
	sub, bitmap := int(le.Uint32(b[432:])), int(le.Uint32(b[436:]))
	descs := block * (1 + sub + bitmap)
	return []span{{8, 12}, {424, 464}, {424, 464}, {block, block + 104}, {block, block + 104}, {block + 104, block + 200},
		{block * (1 + sub), descs}, {descs, descs + 24*200}, {len(b) / 2, len(b)}}
}

// flatHot is the header, and of each record the header and the first bytes.
func flatHot(b []byte) []span {
	hot := []span{{0, 32}}
	for at := 4096; at+16 <= len(b); {
		hot = append(hot, span{at, at + 16}, span{at, min(at+216, len(b))})
		size := int64(binary.BigEndian.Uint64(b[at+8:]))
		if size < 0 {
			break
		}
		at += 16 + int(size)
	}
	return hot
}

// mutated returns the core with a few of its numbers changed, and now and then
// cut, longer, or with a piece of itself in another place.
func (s subject) mutated(r *rand.Rand) []byte {
	b := bytes.Clone(s.b)
	for range 1 + r.IntN(4) {
		h := s.hot[r.IntN(len(s.hot))]
		if h.to <= h.from {
			continue
		}
		at := h.from + r.IntN(h.to-h.from)
		width := 1 << r.IntN(4)
		at &^= min(width, 4) - 1
		if at+8 > len(b) {
			continue
		}
		var v uint64
		switch r.IntN(4) {
		case 0:
			v = limits[r.IntN(len(limits))]
		case 1:
			v = uint64(r.IntN(len(b) + 8192))
		case 2:
			v = r.Uint64()
		case 3:
			v = s.order.Uint64(b[at:]) + uint64(r.IntN(33)) - 16
		}
		switch width {
		case 1:
			b[at] = byte(v)
		case 2:
			s.order.PutUint16(b[at:], uint16(v))
		case 4:
			s.order.PutUint32(b[at:], uint32(v))
		case 8:
			s.order.PutUint64(b[at:], v)
		}
	}
	switch r.IntN(12) {
	case 0:
		b = b[:r.IntN(len(b))]
	case 1:
		b = append(b, make([]byte, r.IntN(10000))...)
	case 2:
		from, to, n := r.IntN(len(b)), r.IntN(len(b)), 1+r.IntN(4096)
		copy(b[to:], b[from:min(len(b), from+n)])
	}
	return b
}

// A mutator puts mutated dumps through the library.
type mutator struct {
	dir   string
	tally map[string]int
}

// mutate tries runs mutated dumps. The one that fails is kept.
func mutate(ctx context.Context, below string, runs int, seed uint64) error {
	all, err := subjects()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(below, "mutate")
	if err != nil {
		return errors.WithStack(err)
	}
	defer os.RemoveAll(dir)
	m := mutator{dir, map[string]int{}}
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := all[i%len(all)]
		b := s.mutated(r)
		if err := m.one(ctx, b); err != nil {
			keep := filepath.Join(os.TempDir(), "attack-failed-core")
			os.WriteFile(keep, b, 0o600)
			return errors.Wrapf(err, "run %d of seed %d, from %s, kept as %s", i, seed, s.name, keep)
		}
	}
	fmt.Printf("%d mutated dumps, none harmed\n", runs)
	for _, what := range slices.Sorted(maps.Keys(m.tally)) {
		fmt.Printf("  %-32s %6d\n", what, m.tally[what])
	}
	if m.tally["opened"] == 0 || m.tally["copied"] == 0 {
		return errors.New("no mutated dump was changed: nothing was tried")
	}
	return nil
}

// added is the note that the dumps get.
var added = elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=2b\n" + strings.Repeat("FIELD(GUEST_RIP)=3f0\n", 30))}

// edit adds the note, or puts it in the place of one that is there.
func edit(c vmcore.Core) (elfnote.Splice, error) {
	s := c.Notes()
	if i, ok := s.Find(elfnote.VMCSInfo, 0); ok {
		return s.Replace(i, added), nil
	}
	return s.Insert(added), nil
}

// one changes the dump in each way that there is. It fails if notes or memory
// of the dump are lost, and for a panic, but not if the library returns an
// error.
func (m *mutator) one(ctx context.Context, b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Errorf("panic: %v", p)
		}
	}()
	stream := &bounded{left: 256 << 20}
	_, streamErr := vmcore.Stream(ctx, stream, bytes.NewReader(b), edit)
	c, err := vmcore.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		m.tally["refused"]++
		return nil
	}
	m.tally["opened"]++
	if strings.HasPrefix(c.Format(), "flat-") && c.PlainSize() > 256<<20 {
		m.tally["plain form too large to try"]++
		return nil
	}
	for _, f := range c.Verify() {
		// Bytes that are descriptors as well as page data: what moves a page
		// changes what is in it.
		if strings.Contains(f.Text, "the page descriptors end at") {
			m.tally["page data in the descriptors"]++
			return nil
		}
	}
	before, err := digestOf(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil // a note that cannot be read
	}
	vmcore.VerifyDeep(ctx, c)
	path := filepath.Join(m.dir, "core")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return errors.WithStack(err)
	}
	copied, err := m.copy(ctx, path, before)
	if err != nil {
		return err
	}
	if copied != nil && streamErr == nil {
		m.tally["streamed"]++
		if !bytes.Equal(copied, stream.Bytes()) {
			return errors.New("stream and copy differ")
		}
	}
	for _, p := range []vmcore.Placement{vmcore.Slack, vmcore.End, vmcore.Split, vmcore.Evict, vmcore.Copy} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return errors.WithStack(err)
		}
		if err := m.inPlace(ctx, path, p, before); err != nil {
			return errors.Wrap(err, string(p))
		}
	}
	return nil
}

// copy returns the changed copy, or nil if the library refuses to make one.
func (m *mutator) copy(ctx context.Context, path string, before digest) ([]byte, error) {
	f, err := vmcore.OpenFile(path)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	splice, _ := edit(f)
	out := filepath.Join(m.dir, "out")
	if err := os.RemoveAll(out); err != nil {
		return nil, errors.WithStack(err)
	}
	if _, err := f.CopyTo(ctx, out, splice, vmcore.CopyOptions{}); err != nil {
		m.tally["copy refused"]++
		return nil, nil
	}
	m.tally["copied"]++
	if err := expect(out, before); err != nil {
		return nil, errors.Wrap(err, "-o")
	}
	b, err := os.ReadFile(out)
	return b, errors.WithStack(err)
}

// inPlace changes the file.
func (m *mutator) inPlace(ctx context.Context, path string, p vmcore.Placement, before digest) error {
	f, err := vmcore.OpenFileRW(path)
	if err != nil {
		m.tally["in place refused"]++
		return nil
	}
	defer f.Close()
	splice, _ := edit(f)
	alt := splice
	if _, ok := f.Notes().Find(elfnote.VMCSInfo, 0); !ok {
		alt = f.Notes().Append(added)
	}
	plan, err := f.Plan(splice, alt, p)
	if err != nil {
		m.tally[string(p)+" refused"]++
		return nil
	}
	if err := plan.Do(ctx, nil); err != nil {
		m.tally[string(p)+" failed"]++
		now, err := digestFile(path)
		if err == nil && !now.same(before) {
			err = errors.New("failed, and left another dump")
		}
		return err
	}
	m.tally[string(p)]++
	return expect(path, before)
}

// expect wants the changed dump to be the old one with the note.
func expect(path string, before digest) error {
	now, err := digestFile(path)
	switch {
	case err != nil:
		return errors.Wrap(err, "the changed dump does not open")
	case !now.note:
		return errors.New("the changed dump has no VMCSINFO")
	case !now.same(before):
		return errors.New("the changed dump has other notes, memory, or more faults")
	}
	return nil
}

// bounded keeps what is written, up to a limit.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, io.ErrShortWrite
	}
	return b.Buffer.Write(p)
}
