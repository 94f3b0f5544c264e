package cli_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// split cuts a compressed dump at PFNs into the pieces that makedumpfile
// --split would write: IN.1, IN.2 and so on. Each has all bitmaps and the
// descriptors and data of its own pages.
func split(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 10)
	const block = 4096
	b := []byte(ts.ReadFile(args[0]))
	le := binary.LittleEndian
	bitmaps := block * (1 + int(le.Uint32(b[432:])))
	descs := bitmaps + block*int(le.Uint32(b[436:]))
	bitmap := b[(bitmaps+descs)/2 : descs]
	mapnr := le.Uint64(b[block+96:])
	cuts := []uint64{0}
	for _, s := range args[1:] {
		pfn, err := strconv.ParseUint(s, 0, 64)
		ts.Check(err)
		cuts = append(cuts, pfn)
	}
	cuts = append(cuts, mapnr)
	n := 0 // of the descriptor
	for i, start := range cuts[:len(cuts)-1] {
		end := cuts[i+1]
		var own []int
		for pfn := start; pfn < end; pfn++ {
			if bitmap[pfn/8]>>(pfn%8)&1 != 0 {
				own = append(own, descs+24*n)
				n++
			}
		}
		head := slices.Clone(b[:descs])
		le.PutUint32(head[block+12:], 1)
		le.PutUint64(head[block+80:], start)
		le.PutUint64(head[block+88:], end)
		var table, data []byte
		for _, at := range own {
			d := slices.Clone(b[at : at+24])
			off := le.Uint64(d)
			le.PutUint64(d, uint64(descs+24*len(own)+len(data)))
			table = append(table, d...)
			data = append(data, b[off:off+uint64(le.Uint32(d[8:]))]...)
		}
		ts.Check(os.WriteFile(ts.MkAbs(fmt.Sprintf("%s.%d", args[0], i+1)), slices.Concat(head, table, data), 0o600))
	}
}

// enospc makes of a compressed dump what makedumpfile leaves on a full disk:
// marked so, and without its last N pages.
func enospc(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 3)
	const block = 4096
	b := []byte(ts.ReadFile(args[0]))
	le := binary.LittleEndian
	lost, err := strconv.Atoi(args[2])
	ts.Check(err)
	descs := block * (1 + int(le.Uint32(b[432:])) + int(le.Uint32(b[436:])))
	end := int(le.Uint64(b[descs:])) // the first page's data ends the descriptors
	clear(b[end-24*lost : end])
	last := end - 24*(lost+1)
	b = b[:le.Uint64(b[last:])+uint64(le.Uint32(b[last+8:]))]
	le.PutUint32(b[424:], le.Uint32(b[424:])|8)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
}
