package cli

// A hint that the command cannot follow ends every test.
func init() {
	unfit = func(command, hint string) { panic("vmcsnote " + command + " has no flag of the hint " + hint) }
}
