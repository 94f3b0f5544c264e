package cli

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/probefile"
	"vmcsnote/internal/visible"
	"vmcsnote/vmcs"
)

// probeFile is where the kernel module keeps what it saw.
const probeFile = "/sys/kernel/debug/vmcsinfo/probe"

// probe prints what the kernel module saw on a processor.
func (e *env) probe(path string) error {
	b, err := inputfile.ReadAll(path, probefile.MaxSize)
	if err != nil {
		return err
	}
	f, err := probefile.Parse(b)
	if err != nil {
		return inputfile.About(path, err)
	}
	io.WriteString(e.Stdout, visible.ASCII(string(f.Facts), "\n"))
	fmt.Fprintf(e.Stdout, "%d of %d fields located\n", f.Located(), len(f.Fields))
	if len(f.Cleared) > 0 {
		fmt.Fprintf(e.Stdout, "VMCLEAR alone changes %s\n", runs(f.Cleared))
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	io.WriteString(w, "field\tlocated\tVMREAD\tat\tVMWRITE\tover zeros\tover ones\talone it changes\n")
	for _, field := range f.Fields {
		name, _ := vmcs.FieldByEncoding(field.Encoding)
		digits := field.Encoding.Width()
		written := outcome(field.Write)
		if field.Write == 0 {
			written = number(field.Marker, digits)
		}
		io.WriteString(w, strings.Join([]string{name.Name, outcome(field.Offset), number(field.Value, digits), outcome(field.Read),
			written, hexOf(field.At(f.Zeros)), hexOf(field.At(f.Ones)), runs(field.Alone) + "\n"}, "\t"))
	}
	return w.Flush()
}

// number returns the low bytes of a value, as they lie in memory.
func number(v uint64, bytes int) string {
	return hexOf(binary.LittleEndian.AppendUint64(nil, v)[:bytes])
}

// hexOf returns bytes in hexadecimal, or "-" if there are none.
func hexOf(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString(b)
}

// outcome returns an offset, or the module's error in a word.
func outcome(n int32) string {
	switch {
	case n >= 0:
		return fmt.Sprintf("%#x", n)
	case n == probefile.NotFound:
		return "nowhere"
	case n == probefile.NoField:
		return "missing"
	case n == probefile.ReadOnly:
		return "read-only"
	}
	return "failed"
}

// runs lists the bytes that changed, or "-": the offset of each run, and its
// new bytes.
func runs(diffs []probefile.Diff) string {
	if len(diffs) == 0 {
		return "-"
	}
	var b strings.Builder
	for i, d := range diffs {
		if i == 0 || d.Offset != diffs[i-1].Offset+1 {
			fmt.Fprintf(&b, " %#x:", d.Offset) // a blank before each
		}
		fmt.Fprintf(&b, "%02x", d.After)
	}
	return b.String()[1:]
}
