package cli

import (
	"context"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/source"
	"vmcsnote/vmcore"
)

// A dump is an open dump: one file, or the pieces of a split dump.
type dump struct {
	vmcore.Core
	paths []string
	files []*vmcore.File
}

// openDump opens a dump for reading its memory.
func (e *env) openDump(ctx context.Context, paths []string, as form) (*dump, error) {
	d := &dump{paths: paths}
	var cores []vmcore.Core
	for _, path := range paths {
		c, err := e.open(ctx, path, as, false)
		if err != nil {
			d.Close()
			return nil, named(path, err)
		}
		d.files, cores = append(d.files, c), append(cores, c.Core)
	}
	if d.Core = cores[0]; len(paths) == 1 {
		return d, nil
	}
	whole, err := vmcore.JoinPieces(cores, paths)
	if err != nil {
		d.Close()
		if errors.Is(err, vmcore.ErrNoPiece) {
			return nil, usagef("%v: several files must be pieces of one dump", err)
		}
		return nil, source.Error{Err: err} // which names the files
	}
	d.Core = whole
	return d, nil
}

// Close closes the files.
func (d *dump) Close() {
	for _, f := range d.files {
		f.Close()
	}
}

// dumpName is what messages call the dump at paths.
func dumpName(paths []string) string {
	if n := len(paths) - 1; n > 0 {
		return paths[0] + " and " + message.Plural(n, "more piece")
	}
	return paths[0]
}

// dumpArgs returns the files of the one dump that a command reads.
func dumpArgs(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, usagef("VMCORE is missing")
	}
	for i, path := range args {
		if slices.Contains(args[:i], path) {
			return nil, usagef("%s is given twice", path)
		}
	}
	return args, nil
}

// A shortfallReport says in JSON which memory is missing from a dump.
type shortfallReport struct {
	Truncated  bool        `json:"truncated,omitempty"`
	Incomplete bool        `json:"incomplete,omitempty"` // as makedumpfile marked it
	Missing    uint64      `json:"missing_pages,omitempty"`
	Pieces     []pfnReport `json:"pieces,omitempty"`
	Lacking    []pfnReport `json:"lacking,omitempty"` // what no piece holds
}

// A pfnReport is a range of page frame numbers.
type pfnReport struct {
	First string `json:"first_pfn"`
	Last  string `json:"last_pfn"`
}

func reportPFNs(ranges []vmcore.PFNs) (rs []pfnReport) {
	for _, r := range ranges {
		if r.End > r.Start { // else the piece holds none
			rs = append(rs, pfnReport{message.Hex(r.Start), message.Hex(r.End - 1)})
		}
	}
	return rs
}

func reportShortfall(s vmcore.Shortfall) shortfallReport {
	return shortfallReport{s.Truncated, s.Incomplete, s.Pages, reportPFNs(s.Pieces), reportPFNs(s.Lacking)}
}
