package cli_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"

	"github.com/klauspost/compress/snappy"
	"github.com/rogpeppe/go-internal/testscript"

	"vmcsnote/vmcore"
)

// image writes the memory of a dump as LiME, AVML or dd would, or takes the
// PT_NOTE of an ELF core away.
func image(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 3)
	if args[0] == "bare" {
		b := []byte(ts.ReadFile(args[1]))
		phoff, size, n := binary.LittleEndian.Uint64(b[32:]), 56, int(binary.LittleEndian.Uint16(b[56:]))
		for i := range n {
			p := b[int(phoff)+i*size:]
			if binary.LittleEndian.Uint32(p) == 4 { // PT_NOTE
				clear(p[:size])
			}
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), b, 0o600))
		return
	}
	c, err := vmcore.OpenFile(ts.MkAbs(args[1]))
	ts.Check(err)
	defer c.Close()
	out, err := os.Create(ts.MkAbs(args[2]))
	ts.Check(err)
	defer out.Close()
	for r := range c.Ranges() {
		b := make([]byte, r.Size)
		_, err := c.ReadPhys(b, r.Addr)
		ts.Check(err)
		h := binary.LittleEndian.AppendUint64(nil, r.Addr)
		h = binary.LittleEndian.AppendUint64(h, r.Addr+r.Size-1)
		h = append(h, make([]byte, 8)...)
		switch args[0] {
		case "raw":
			_, err = out.WriteAt(b, int64(r.Addr))
		case "lime":
			_, err = out.Write(append(append([]byte("EMiL\x01\x00\x00\x00"), h...), b...))
		case "avml":
			var packed bytes.Buffer
			w := snappy.NewBufferedWriter(&packed)
			_, err = w.Write(b)
			ts.Check(err)
			ts.Check(w.Close())
			sum := binary.LittleEndian.AppendUint64(nil, uint64(packed.Len()))
			_, err = io.Copy(out, io.MultiReader(bytes.NewReader(append([]byte("AVML\x02\x00\x00\x00"), h...)), &packed, bytes.NewReader(sum)))
		default:
			ts.Fatalf("image: no form %q", args[0])
		}
		ts.Check(err)
	}
}
