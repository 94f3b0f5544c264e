package linux

import (
	"reflect"
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
	v := reflect.ValueOf(fields).Elem()
	for i := range v.NumField() {
		tag, ok := v.Type().Field(i).Tag.Lookup("btf")
		if !ok {
			continue
		}
		to := v.Field(i).Addr().Interface().(*Field)
		paths, optional := strings.CutSuffix(tag, ",optional")
		f, err := s.Field(strings.Split(paths, "|")...)
		var missing *MemberError
		switch {
		case err == nil:
			*to = f
		case optional && errors.As(err, &missing):
		default:
			return err
		}
	}
	return nil
}
