// Command btfpaths prints which members of the kernel's structures, of those
// that packages linux and kvm read, each of some kernels has.
//
//	btfpaths [-vmcb DIR] DIR...
//
// A directory holds what a kernel's packages do: boot/vmlinuz-RELEASE or
// lib/modules/RELEASE/vmlinuz, and the modules kvm, kvm-intel and kvm-amd; and
// vmcb.o, of a kernel whose modules have no BTF. What only a module that is not
// there can tell is a question mark. The exit status is 1 if a kernel lacks a
// member that all must have. With -vmcb it also writes
// to a directory where each kernel's struct vmcb has its members, for package
// svm's test. scripts/kernels downloads kernels and runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/linux"
)

func main() {
	vmcb := flag.String("vmcb", "", "write there where struct vmcb has its members")
	flag.Parse()
	missing := 0
	var all []*kernel
	for _, dir := range flag.Args() {
		k, err := open(dir)
		if err != nil {
			fmt.Fprintf(os.Stderr, "btfpaths: %s: %v\n", dir, err)
			os.Exit(1)
		}
		all = append(all, k)
	}
	if *vmcb != "" {
		if err := writeVMCB(*vmcb, all); err != nil {
			fmt.Fprintf(os.Stderr, "btfpaths: %v\n", err)
			os.Exit(1)
		}
	}
	head, line := "| struct | member |", "|---|---|"
	for _, k := range all {
		head += " " + k.short() + " |"
		line += "---|"
	}
	fmt.Printf("%s\n%s\n", head, line)
	same := 0
	for _, b := range append(linux.Bindings(), kvm.Bindings()...) {
		var members, cells []string
		for _, p := range b.Paths() {
			row, differs, first := "", false, ""
			for i, k := range all {
				cell, ok := k.resolve(b, p)
				if !ok {
					missing++
				}
				if row += " " + cell + " |"; i == 0 {
					first = cell
				}
				differs = differs || cell != first || !ok
			}
			if !differs {
				same++
				continue
			}
			members, cells = append(members, strings.Join(p.Alternatives, ", ")), append(cells, row)
		}
		for i, row := range cells {
			n := 0
			for _, other := range cells {
				if other == row {
					n++
				}
			}
			switch {
			case n <= 2:
				fmt.Printf("| %s | %s |%s\n", b.Struct, members[i], row)
			case slices.Index(cells, row) != i: // printed before
			case n == len(b.Paths()):
				fmt.Printf("| %s | all %d |%s\n", b.Struct, n, row)
			default:
				fmt.Printf("| %s | %d of %d |%s\n", b.Struct, n, len(b.Paths()), row)
			}
		}
	}
	fmt.Printf("\nOf %d members more there is no difference.\n", same)
	if missing > 0 {
		fmt.Fprintf(os.Stderr, "btfpaths: %d members that must be there are not\n", missing)
		os.Exit(1)
	}
}

// resolve looks for a member. It is false if the kernel must have it, but does
// not.
func (k *kernel) resolve(b linux.Binding, p linux.Path) (cell string, ok bool) {
	module := strings.ReplaceAll(b.Module, "_", "-")
	_, ok = k.files[module]
	unknown := !ok && module != ""
	types := k.types[module]
	if types == nil { // a module without BTF: before 5.11
		types = k.types[""]
	}
	s, err := types.Struct(b.Struct)
	var noType *linux.TypeError
	if errors.As(err, &noType) {
		if unknown {
			return "?", true
		}
		// kvm_intel and kvm_amd keep these to themselves; linux has
		// another name for the XArray until 4.19, and no list of
		// modules' BTF before 5.11.
		return "no type", !k.modules
	}
	if err != nil {
		return err.Error(), false
	}
	f, err := s.Field(p.Alternatives...)
	var noMember *linux.MemberError
	switch {
	case errors.As(err, &noMember) && unknown && noMember.Type != b.Struct: // of a type that only the module has
		return "?", true
	case errors.As(err, &noMember):
		return "no", p.Optional
	case err != nil:
		return err.Error(), false
	case len(p.Alternatives) > 1:
		return f.Path, true
	}
	return "yes", true
}
