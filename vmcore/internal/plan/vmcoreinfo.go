package plan

import (
	"strconv"
	"strings"

	"vmcsnote/elfnote"
)

// VMCoreInfo returns the text of the VMCOREINFO note; nil if there is none, or
// if it has more than [elfnote.MaxVMCoreInfo] bytes. Offsets in errors count
// from the start of the notes.
func VMCoreInfo(notes *elfnote.Segment) ([]byte, error) {
	i, ok := notes.Find(elfnote.VMCoreInfo, 0)
	if !ok || notes.Notes[i].DescSize > elfnote.MaxVMCoreInfo {
		return nil, nil
	}
	n, err := notes.Note(i, elfnote.MaxVMCoreInfo)
	return n.Desc, err
}

// KernelPage returns the size of the kernel's pages by VMCOREINFO, or 0.
func KernelPage(notes *elfnote.Segment) (int64, error) {
	info, err := VMCoreInfo(notes)
	for line := range strings.Lines(string(info)) {
		if s, ok := strings.CutPrefix(line, "PAGESIZE="); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
			if err != nil {
				n = 0
			}
			return int64(n), nil
		}
	}
	return 0, err
}
