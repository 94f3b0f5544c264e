# What e2e-svm checks: it looks at $r, the run's folder, with the functions of
# crashkit/checks.sh. It must not source host.sh, which has a function that crashes
# the machine. Machines are numbered in the order in which they were started.
# shellcheck shell=bash disable=SC2154
numbers() { # prints names and numbers
	local i=0 g
	for g in web01 db02 $([ "$GUESTS" != all ] || echo huge03 nest04) A B; do
		echo "$g $i"
		i=$((i + 1))
	done
}
numberOf() { numbers | awk -v n="$1" '$1 == n {print $2}'; }

report() { vmcsnote guests --json "$d/$1" >"$d/$1.json"; }

# fields DUMP NAME...: of all vCPUs, a line each.
fields() { vmcsnote guests --field "$2" "$d/$1"; }

# spinning DUMP NAME: the guest's registers are those that it was given.
spinning() {
	local want
	want=$(sed -n "s/^$2\.0 EXPECT rip=\([^ ]*\) rsp=\([^ ]*\) r15=\([^ ]*\) cr3=\(.*\)/\1 \2 \3 \4/p" "$o/$2.log")
	[ -n "$want" ] && fields "$1" guest,rip,rsp,r15,cr3 | grep -x "[0-9]* $want"
}

# nested: nest04's guest is listed with the registers that it was given, and its
# process in nest04.
nested() {
	local want
	want=$(sed -n 's/^N\.0 EXPECT rip=\([^ ]*\) rsp=\([^ ]*\) r15=\([^ ]*\) cr3=\([^ \r]*\).*/\1 \2 \3 \4/p' "$o/nest04.log")
	[ -n "$want" ] && fields full guest,rip,rsp,r15,cr3,pid |
		grep -x "$(numberOf nest04).0 $want $(sed -n 's/^N MEMORY .* pid=\([0-9]*\).*/\1/p' "$o/nest04.log")"
}
nestedCode() {
	local code
	code=$(sed -n 's/^N\.0 CODE gpa=0x20000 bytes=\([0-9a-f]*\).*/\1/p' "$o/nest04.log")
	[ -n "$code" ] && vmcsnote guests --guest "$(numberOf nest04).0" --vcpu 0 --read "gva:0x20000:$((${#code} / 2))" "$d/full" |
		sed 's/  |.*//; s/^[0-9a-f]* *//' | tr -d ' \n' | grep -x "$code"
}

# running: both guests that never leave their loop have the R15 that they were given.
running() { [ "$(sed -n 's/.* r15=\([^ ]*\) .* errno=.*/"value": "\1"/p' "$o"/[AB].log | grep -cf - "$o/running.out")" = 2 ]; }

# burning DUMP: web01's busy program is in its loop, with its registers; or in its
# kernel, which host.sh makes unlikely.
burning() {
	local q=0xb0b0b0b0b0b0b00
	if fields "$1" guest,vcpu,cs.selector | grep -x '0 1 0x33'; then
		fields "$1" guest,vcpu,r15,r14,r13,r12,rbx,rbp,rax,rip |
			grep -x "0 1 ${q}1 ${q}2 ${q}3 ${q}4 ${q}5 ${q}6 ${q}7 0x4[0-9a-f]*"
	else
		fields full guest,vcpu,task | grep -x '0 1 burner'
	fi
}
# registers DUMP: of all vCPUs, but for those of guests of guests.
registers() { fields "$1" guest,vcpu,rax,rbx,rcx,rdx,rsi,rdi,rbp,rsp,r8,r9,r10,r11,r12,r13,r14,r15,rip,rflags,cr0,cr2,cr3,cr4,efer | grep -v '\.'; }
alike() { registers d31 | grep -q 0x && diff <(registers d31) <(registers full); }

pidOf() { sed -n "s/^$1 MEMORY .* pid=//p" "$o/$1.log"; }

# crashed: the second processor did, while it ran B.
crashed() {
	makedumpfile --message-level 4 -f --dump-dmesg "$d/d31" "$d/d31.dmesg" &&
		grep 'Kernel panic - not syncing: NMI: Not continuing' "$d/d31.dmesg" &&
		grep "CPU: 1 .*PID: $(pidOf B) Comm: kvmguest" "$d/d31.dmesg"
}

# ran DUMP NAME CPU: that processor ran the guest, or KVM for it.
ran() { fields "$1" tid,state,cpu | grep -x "$(pidOf "$2") \(guest\|host\) $3"; }

# listed DUMP: there are these vCPUs, and no others, but for guests of guests.
listed() {
	local want
	want=$(numbers | awk '{print $2, 0} $1 == "web01" {print $2, 1}' | sort -n)
	diff <(echo "$want") <(fields "$1" guest,vcpu | grep -v '\.')
}

# extracted NAME [OPTION...]: as $d/NAME.core.
extracted() {
	local name=$1
	shift
	vmcsnote extract --force --guest "$(numberOf "$name")" "$@" -o "$d/$name.core"
}
pristine() { "$WORK/svmcheck" memory "$1" "$d/db02.mem"; }
greets() { # the kernel's log is in the core of a guest
	makedumpfile --message-level 4 -f --dump-dmesg "$d/$1.core" "$d/$1.dmesg" && grep "hello from $1" "$d/$1.dmesg"
}
releaseOf() { [ "$(crash --osrelease "$d/$1.core")" = "$(cat "$built/guests.release")" ]; }
gdbSees() { # the registers that vmcsnote prints
	local want
	want=$(fields full guest,vcpu,r15,rip | sed -n 's/^0 1 \(0x[^ ]* 0x[^ ]*\)$/\1/p')
	[ -n "$want" ] && [ "$want" = "$(gdb -nx -batch -ex 'thread 2' -ex 'info registers r15 rip' -c "$d/web01.core" 2>&1 |
		awk '/^r15|^rip/ {print $2}' | paste -sd ' ')" ]
}
drgnSees() { # where there is drgn
	/usr/bin/python3 -c 'import drgn, sys
p = drgn.Program()
p.set_core_dump(sys.argv[1])
print(p.flags)' "$d/$1.core" | grep IS_LINUX_KERNEL
}
crashSees() {
	printf 'set -c 1\nbt\nq\n' | timeout 300 crash -s "$built/guests.vmlinux" "$d/web01.core" >"$d/web01.bt" 2>&1
	grep 'COMMAND: "burner"' "$d/web01.bt" && grep 'RIP: 00000000004[0-9a-f]*' "$d/web01.bt"
}

check() {
	d=$r/dump o=$r/out/first
	local n
	for n in web01 db02; do
		ok "the running host: $n's process and threads" "$WORK/svmcheck" process "$o/running.out" "$n" "$o/$n.process"
	done
	ok 'the running host: it is told as that' grep -x '  "live": true,' "$o/running.out"
	ok 'the running host: all registers of a paused guest' "$WORK/svmcheck" registers "$o/running.out" 1 "$o/db02.registers"
	ok 'the running host: guests on both processors' running
	for n in d31 full; do
		ok "$n: guests --json" report "$n"
		ok "$n: all vCPUs, and no others" listed "$n"
		ok "$n: web01's process and threads" "$WORK/svmcheck" process "$d/$n.json" web01 "$o/web01.process"
		ok "$n: db02's process and threads" "$WORK/svmcheck" process "$d/$n.json" db02 "$o/db02.process"
		ok "$n: the busy program's registers" burning "$n"
		ok "$n: a guest ran on the first processor" ran "$n" A 0
		ok "$n: its registers" spinning "$n" A
		ok "$n: a guest ran on the second processor, which crashed" ran "$n" B 1
		ok "$n: its registers" spinning "$n" B
		ok "$n: all registers of a paused guest as QEMU has them" "$WORK/svmcheck" registers "$d/$n.json" 1 "$o/db02.registers"
	done
	ok 'the second processor crashed while it ran a guest' crashed
	ok 'both dumps have the same registers' alike
	if [ "$GUESTS" = all ]; then
		# Nest04's own kernel lists it. D31 lacks that kernel, so that it has the
		# guest only if that ran when the host crashed.
		ok 'full: process and registers of the guest in nest04' nested
		ok 'full: memory of the guest in nest04' nestedCode
	fi
	for n in $(numbers | awk '/0/ && $1 !~ /^[AB]$/ {print $1}'); do
		ok "$n: extract" extracted "$n" "$d/full"
		ok "$n: verify" vmcsnote verify --deep "$d/$n.core"
		ok "$n: crash --osrelease" releaseOf "$n"
		ok "$n: makedumpfile --dump-dmesg" greets "$n"
		! /usr/bin/python3 -c 'import drgn' 2>/dev/null || ok "$n: drgn" drgnSees "$n"
	done
	ok 'db02: all of its memory as pmemsave has it' pristine "$d/db02.core"
	ok 'db02: extract --qemu-core, of the filtered dump' extracted db02 --qemu-core "$d/db02.core.gcore" "$d/d31"
	ok 'db02: all of its memory, out of the core of QEMU' pristine "$d/db02.core"
	ok 'web01: gdb' gdbSees
	[ ! -e "$built/guests.vmlinux" ] || ok 'web01: crash: bt of the busy program' crashSees
}
