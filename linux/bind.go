package linux

import (
	"iter"
	"reflect"
	"slices"
	"strings"

	"github.com/pkg/errors"
)

// Bind resolves fields, a pointer to a Go struct: each of its members that
// has a tag btf is a [Field], exported, and the tag is its paths, most recent
// first:
//
//	var cgroup struct {
//		Name   linux.Field `btf:"name"`
//		Parent linux.Field `btf:"__parent|parent"` // renamed in 6.15
//		RCU    linux.Field `btf:"rcu,optional"`
//	}
//
// An optional field that does not exist stays invalid; any other is an error.
func (s *Struct) Bind(fields any) error {
	for p, to := range paths(fields) {
		f, err := s.Field(p.Alternatives...)
		var missing *MemberError
		switch {
		case err == nil:
			*to = f
		case p.Optional && errors.As(err, &missing):
		default:
			return err
		}
	}
	return nil
}

// A Binding is a struct and what is read of it, as [Struct.Bind] takes it. The
// packages that read a kernel resolve their fields by bindings, so that a list
// of these is a list of all that they need of a kernel.
type Binding struct {
	Module string // "" for the kernel's image
	Struct string
	Fields any
}

// A Path is a field that is read: the paths that it may have, most recent
// first, and whether a kernel may lack it.
type Path struct {
	Alternatives []string
	Optional     bool
}

// Paths returns the paths of the binding's fields.
func (b Binding) Paths() []Path {
	var all []Path
	for p := range paths(b.Fields) {
		all = append(all, p)
	}
	return all
}

// paths returns the tags of a pointer to a Go struct, with the fields that have
// them.
func paths(fields any) iter.Seq2[Path, *Field] {
	return func(yield func(Path, *Field) bool) {
		v := reflect.ValueOf(fields).Elem()
		for i := range v.NumField() {
			tag, ok := v.Type().Field(i).Tag.Lookup("btf")
			if !ok {
				continue
			}
			alternatives, optional := strings.CutSuffix(tag, ",optional")
			if !yield(Path{strings.Split(alternatives, "|"), optional}, v.Field(i).Addr().Interface().(*Field)) {
				return
			}
		}
	}
}

// Bindings returns what this package reads of a kernel.
func Bindings() []Binding {
	return slices.Concat(new(taskFields).bindings(), new(orcFields).bindings(), new(vmaFields).bindings(), []Binding{
		new(timeFields).binding(), new(cpuFields).binding(), new(moduleFields).binding(), new(btfModuleFields).binding(), new(rbFields).binding(),
		new(xaRootFields).binding(), new(xaNodeFields).binding(),
	})
}

// bind resolves fields of the kernel's own structs.
func (k *Kernel) bind(all ...Binding) error {
	for _, b := range all {
		s, err := k.Struct(b.Struct)
		if err == nil {
			err = s.Bind(b.Fields)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
