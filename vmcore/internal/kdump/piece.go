package kdump

import (
	"bytes"
	"cmp"
	"fmt"

	"vmcsnote/vmcore/internal/plan"
)

// Differs names something that all pieces of one dump have in common but c and
// d do not, or returns "".
func (c *Dump) Differs(d *Dump) (string, error) {
	switch {
	case c.Order != d.Order || c.ABI != d.ABI || c.Version != d.Version:
		return "formats", nil
	case c.BlockSize != d.BlockSize:
		return "page sizes", nil
	case c.MaxMapnr != d.MaxMapnr:
		return "highest PFNs", nil
	}
	// utsname and timestamp are all that lies between version and status.
	a, b := make([]byte, c.ABI.Status-12), make([]byte, c.ABI.Status-12)
	if err := cmp.Or(c.Read(a, 12), d.Read(b, 12)); err != nil {
		return "", err
	}
	uts := 6 * 65
	switch {
	case !bytes.Equal(a[:uts], b[:uts]):
		return "kernels and hosts (utsname)", nil
	case !bytes.Equal(a[uts:], b[uts:]):
		return "timestamps", nil
	}
	x, err := plan.VMCoreInfo(c.notes)
	if err != nil {
		return "", err
	}
	y, err := plan.VMCoreInfo(d.notes)
	if err == nil && !bytes.Equal(x, y) {
		return "VMCOREINFO notes", nil
	}
	return "", err
}

// PFNs are page frame numbers from Start up to End, which is not among them.
type PFNs struct{ Start, End uint64 }

// PFNs returns the PFNs of which the file has the pages.
func (c *Dump) PFNs() PFNs { return PFNs{c.StartPFN, c.EndPFN} }

// MissingPages counts the pages in the dump's bitmap whose data is not in the
// file.
func (c *Dump) MissingPages() (missing, total uint64) {
	x := c.Index()
	total = x.Pages()
	held := c.held(x)
	missing = total - held
	r := c.pages.get(c)
	defer c.pages.put(r)
	for n := range held {
		d, _, err := r.descriptor(n)
		if err != nil || d.Data.Off == 0 || !d.Data.Within(c.Size) {
			missing++
		}
	}
	return missing, total
}

// String prints the first and the last PFN.
func (p PFNs) String() string {
	if p.End <= p.Start {
		return "none"
	}
	return fmt.Sprintf("%#x to %#x", p.Start, p.End-1)
}
