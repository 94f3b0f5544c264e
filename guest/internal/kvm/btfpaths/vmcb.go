package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// writeVMCB writes to dir, for each kernel whose type it has, where struct vmcb
// has its members: what package svm is tested against.
func writeVMCB(dir string, kernels []*kernel) error {
	for _, k := range kernels {
		if k.svm == nil {
			continue
		}
		f, err := os.Create(filepath.Join(dir, "vmcb-"+k.release+".txt"))
		if err != nil {
			return err
		}
		err = k.vmcb(f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// vmcb prints path, offset and size of the members of both areas. Hyper-V's
// part, and the host's state in the save area of a guest with encrypted
// registers, are none of the VMCB that AMD documents.
func (k *kernel) vmcb(w io.Writer) error {
	s, err := k.svm.Struct("vmcb")
	if err != nil {
		return err
	}
	paths, err := s.Members()
	if err != nil {
		return err
	}
	for _, path := range paths {
		if strings.HasPrefix(path, "host_sev_es_save.") || strings.HasPrefix(path, "control.hv_") {
			continue
		}
		f, err := s.Field(path)
		if err != nil {
			return err
		}
		for i := range max(1, f.Count) {
			name, size := path, f.Size
			if f.Count > 0 && f.Stride > 1 { // not bytes
				name, size = fmt.Sprintf("%s[%d]", path, i), f.Stride
			} else if i > 0 {
				break
			}
			if _, err := fmt.Fprintf(w, "%s %#x %d\n", name, f.Offset()+i*f.Stride, size); err != nil {
				return err
			}
		}
	}
	return nil
}
