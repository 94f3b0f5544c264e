package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/source"
	"vmcsnote/internal/visible"
	"vmcsnote/internal/vmcsmap"
	"vmcsnote/record"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A showReport is what show knows of one file. Its JSON names are fixed.
type showReport struct {
	File     string        `json:"file"`
	Format   string        `json:"format"`
	Cut      bool          `json:"cut_off,omitempty"` // a flattened dump without its end marker
	Piece    []pfnReport   `json:"piece,omitempty"`   // of a split dump: one range
	Notes    []noteReport  `json:"notes"`
	VMCSInfo *layoutReport `json:"vmcsinfo,omitempty"`
	Record   *recordReport `json:"record,omitempty"`
	// Incomplete: makedumpfile marked the dump as unfinished.
	Incomplete bool   `json:"incomplete,omitempty"`
	Error      string `json:"error,omitempty"`

	remark string       // on the dump, for people
	raw    []byte       // VMCSINFO's descriptor
	layout *vmcs.Layout // nil if none can be read from it
}

type noteReport struct {
	Name   string `json:"name"`
	Type   uint32 `json:"type"`
	Size   int64  `json:"size"`   // of the descriptor, bytes
	Offset string `json:"offset"` // of the note in the file, hex
}

type layoutReport struct {
	RevisionID   string        `json:"revision_id"`
	Form         string        `json:"form,omitempty"` // cells, offsets or records
	AccessRights string        `json:"access_rights,omitempty"`
	Fields       []fieldReport `json:"fields"`
	Warnings     []string      `json:"warnings,omitempty"`
}

type fieldReport struct {
	Name     string `json:"name"`
	Encoding string `json:"encoding"` // hex; empty for a name that is not known
	Offset   string `json:"offset"`   // in the VMCS page, hex
	Width    int    `json:"width"`    // bytes
}

type recordReport struct {
	Pair    string `json:"pair"`             // "" if the note is from a file of layouts
	Layout  string `json:"layout,omitempty"` // that file
	Release string `json:"release"`
	BootID  string `json:"boot_id"`
	Time    string `json:"time"`
}

func showCommand() command {
	return command{
		name:  "show",
		args:  "FILE...",
		short: "print what is in a core, a blob or a record",
		long: `Lists every note of a core: index, name, type, size of its descriptor in bytes,
file offset, and what it is; then what VMCSINFO says: each field's offset in the
VMCS page and its width, in bytes. FILE may also be a blob (one note, as
/sys/kernel/vmcsinfo leads to it) or a record.`,
		setup: func(fs *pflag.FlagSet) runner {
			var f showFlags
			fs.BoolVar(&f.json, "json", false, "print one JSON document; of several files a list")
			f.jobs = jobsFlag(fs)
			fs.StringVar(&f.note, "note", "", "print the descriptor of the note `NAME` as it is, and nothing else")
			f.mapped.add(fs)
			return f.run
		},
	}
}

// showFlags say what is shown of a file: one note, a map, or all in words.
type showFlags struct {
	json   bool
	jobs   *int
	note   string
	mapped mapFlags
}

func (f *showFlags) run(ctx context.Context, e *env, args []string) error {
	if len(args) == 0 {
		return usagef("FILE is missing")
	}
	if f.note != "" && f.json {
		return usagef("--note and --json both want standard output")
	}
	if err := f.mapped.check(f.json); err != nil {
		return err
	}
	if f.note != "" || f.mapped.given() {
		path, err := oneArg(args, "FILE")
		if err != nil {
			return err
		}
		if f.note != "" {
			return named(path, e.showNote(ctx, path, f.note))
		}
		l, err := e.layoutOf(ctx, path)
		if err != nil {
			return named(path, err)
		}
		return f.mapped.draw(e, l, path)
	}
	reports, err := each(e, args, *f.jobs, func(e *env, path string) (*showReport, error) {
		r, err := e.look(ctx, path)
		if err != nil {
			err = named(path, err)
			return &showReport{File: path, Notes: []noteReport{}, Error: err.Error()}, err
		}
		if f.json {
			return r, nil
		}
		return r, e.show(r)
	})
	if f.json && reports != nil {
		if err := e.json(document(reports)); err != nil {
			return err
		}
	}
	return err
}

// look looks at a file, whatever it is.
func (e *env) look(ctx context.Context, path string) (*showReport, error) {
	b, err := beginning(path)
	if err != nil {
		return nil, err
	}
	switch {
	case record.Looks(b):
		return showRecord(path)
	case looksLikeNote(b):
		return showBlob(path)
	}
	c, err := e.open(ctx, path, vmcore.Open, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := &showReport{File: path, Format: c.Format(), Notes: []noteReport{}, Incomplete: c.Incomplete()}
	if p, ok := vmcore.PieceOf(c.Core); ok {
		r.Piece, r.remark = reportPFNs([]vmcore.PFNs{p}), ", "+message.PieceText(p)
	}
	if r.Incomplete {
		r.remark += ", INCOMPLETE: makedumpfile could not finish it"
	}
	if r.Cut = vmcore.CutOff(c.Core); r.Cut {
		r.remark += ", cut off before its end marker"
	}
	for _, n := range c.Notes().Notes {
		r.Notes = append(r.Notes, noteReport{n.Name, n.Type, n.DescSize, fmt.Sprintf("%#x", c.NotesOff()+n.Off)})
	}
	if n, ok := readVMCSInfo(c.Core); ok {
		r.vmcsinfo(n)
	}
	return r, nil
}

// showNote prints one note's descriptor as it is, however large.
func (e *env) showNote(ctx context.Context, path, name string) error {
	b, err := beginning(path)
	if err != nil {
		return err
	}
	if record.Looks(b) || looksLikeNote(b) {
		r, err := e.look(ctx, path)
		if err == nil && (name != elfnote.VMCSInfo || len(r.Notes) == 0) {
			err = errors.Errorf("no note is named %q", name)
		}
		if err == nil {
			_, err = e.Stdout.Write(r.raw)
		}
		return err
	}
	c, err := e.open(ctx, path, vmcore.Open, false)
	if err != nil {
		return err
	}
	defer c.Close()
	is := byName(c.Notes(), name)
	if len(is) == 0 {
		return errors.Errorf("no note is named %q", name)
	}
	_, err = io.Copy(e.Stdout, c.Notes().Desc(is[0]))
	return err
}

func showRecord(path string) (*showReport, error) {
	rec, err := record.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &showReport{File: path, Format: "record", Notes: []noteReport{}, Record: &recordReport{
		Layout: rec.Layout, Release: rec.Release, BootID: rec.BootID, Time: rec.Time.UTC().Format("2006-01-02T15:04:05Z"),
	}}
	if rec.Layout == "" {
		r.Record.Pair = rec.Pair.String()
	}
	if len(rec.Note) == 0 {
		return r, nil
	}
	return r, r.blob(rec.Note)
}

func showBlob(path string) (*showReport, error) {
	b, err := source.ReadBlob(path)
	if err != nil {
		return nil, err
	}
	r := &showReport{File: path, Format: "blob"}
	return r, r.blob(b)
}

func (r *showReport) blob(b []byte) error {
	n, err := elfnote.FromBlob(b, elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		return err
	}
	r.Notes = []noteReport{{n.Name, n.Type, int64(len(n.Desc)), "0x0"}}
	r.vmcsinfo(n)
	return nil
}

// vmcsinfo decodes the VMCSINFO note, as far as that can be done.
func (r *showReport) vmcsinfo(n elfnote.Note) {
	r.raw = n.Desc
	l, err := vmcs.ParseNote(n.Desc)
	if err != nil {
		r.VMCSInfo = &layoutReport{Fields: []fieldReport{}, Warnings: []string{err.Error()}}
		return
	}
	r.layout, r.VMCSInfo = l, describeLayout(l)
}

// describeLayout returns a layout for --json, its fields in the source's order.
func describeLayout(l *vmcs.Layout) *layoutReport {
	v := &layoutReport{
		RevisionID: fmt.Sprintf("%#x", l.RevisionID), Form: l.Form.String(), AccessRights: l.AccessRights.String(),
		Fields: []fieldReport{}, Warnings: l.Warnings,
	}
	for _, e := range l.Entries {
		f := fieldReport{Name: e.Name, Offset: fmt.Sprintf("%#x", e.Offset), Width: e.Width}
		if e.Known {
			f.Encoding = e.Encoding.String()
		}
		v.Fields = append(v.Fields, f)
	}
	return v
}

// beginning returns the first bytes of a file: enough to tell what it is.
func beginning(path string) ([]byte, error) {
	f, err := inputfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 64)
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b[:n], err
}

// looksLikeNote tells a blob from a core by its first bytes: the note's header
// and name, or the text alone.
func looksLikeNote(b []byte) bool {
	head := elfnote.Note{Name: elfnote.VMCSInfo}.Encode(binary.LittleEndian)
	return bytes.HasPrefix(b, []byte("REVISION_ID=")) ||
		len(b) > len(head) && bytes.Equal(b[:4], head[:4]) && bytes.HasPrefix(b[elfnote.HeaderSize:], head[elfnote.HeaderSize:])
}

// show prints the report for people.
func (e *env) show(r *showReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s%s\n", r.File, r.Format, r.remark)
	if rec := r.Record; rec != nil {
		from := "pair: " + rec.Pair
		if rec.Layout != "" {
			from = "layout: " + message.Name(rec.Layout)
		}
		fmt.Fprintf(&b, "%s\nrelease: %s\nboot id: %s\ntime: %s\n", from, message.Name(rec.Release), message.Name(rec.BootID), rec.Time)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "#\tname\ttype\tsize\toffset\twhat it is")
	for i, n := range r.Notes {
		fmt.Fprintf(w, "%d\t%s\t%#x\t%d\t%s\t%s\n", i, message.Name(n.Name), n.Type, n.Size, n.Offset, message.NoteKind(n.Name, n.Type))
	}
	w.Flush()
	if r.VMCSInfo != nil {
		r.fields(&b)
	}
	_, err := io.WriteString(e.Stdout, b.String())
	return err
}

// fields prints the layout in the note, or the note's text if there is no
// layout to be read from it.
func (r *showReport) fields(b *strings.Builder) {
	v := r.VMCSInfo
	fmt.Fprintf(b, "\nVMCSINFO: revision id %s, %s", cmp.Or(v.RevisionID, "unknown"), message.Plural(len(v.Fields), "field"))
	if r.layout != nil {
		fmt.Fprintf(b, ", form: %s, access rights: %s", v.Form, v.AccessRights)
	}
	b.WriteByte('\n')
	for i, s := range v.Warnings {
		if i == message.MaxWarnings {
			fmt.Fprintf(b, "warning: and %s more, in --json\n", message.Plural(len(v.Warnings)-i, "warning"))
			break
		}
		fmt.Fprintf(b, "warning: %s\n", visible.Text(s, ""))
	}
	if r.layout == nil {
		b.WriteString(visible.ASCII(string(r.raw), "\n\t"))
		return
	}
	for _, f := range r.layout.Facts {
		fmt.Fprintf(b, "%s=%s\n", message.Name(f.Key), message.Name(f.Value))
	}
	b.WriteString(vmcsmap.Table(r.layout))
}
