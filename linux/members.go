package linux

// Members returns the paths of all members of a struct, for [Struct.Field], and
// of the structs in it: of those the members and not the whole. Bitfields, and
// what an anonymous member hides from C, are left out.
func (s *Struct) Members() ([]string, error) {
	var all []string
	visits := 0
	var list func(typ btfType, prefix string, depth int) error
	list = func(typ btfType, prefix string, depth int) error {
		if depth > maxChain || visits > maxTypes {
			return corrupt("BTF type %d is nested without end", typ.id)
		}
		for i := range typ.vlen {
			visits++
			m := typ.member(i)
			inner, err := s.types.strip(m.typ)
			if err != nil {
				return err
			}
			path := prefix
			if m.name != 0 {
				path += s.types.str(m.name)
			}
			switch {
			case inner.kind == kindStruct || inner.kind == kindUnion:
				if m.name != 0 {
					path += "."
				}
				if err := list(inner, path, depth+1); err != nil {
					return err
				}
			case m.bits == 0 && m.name != 0:
				all = append(all, path)
			}
		}
		return nil
	}
	return all, list(s.typ, "", 0)
}
