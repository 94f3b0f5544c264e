# Virtual machines on an AMD host with two CPUs, of which the second crashes. A third
# CPU is idle until then.
# shellcheck shell=bash disable=SC2034,SC2154,SC2317
MEM=1536 SMP=3 CRASHKERNEL=192M MODULE=none CPU=EPYC,+svm,+npt,-xsaves ROOTDISK=1500M DUMPDISK=6G LIMIT=600
GUESTS=all PASS=GUESTS
APPEND='no_timer_check mitigations=off audit=0 random.trust_cpu=on nowatchdog tsc=reliable isolcpus=2 irqaffinity=0,1 nox2apic iomem=relaxed rcupdate.rcu_cpu_stall_suppress=1'
CAPAPPEND='no_timer_check mitigations=off audit=0 nowatchdog tsc=reliable'

# The host's busybox runs what follows. GUESTS says which guests: all, or short, those
# that --short can wait for.
#
# start NAME MIB VCPUS WORDS [OPTION...]: a guest of QEMU's.
start() {
	name=$1 mib=$2 vcpus=$3 words=$4
	shift 4
	n=$((n + 1))
	c=/sys/fs/cgroup/machine.slice/machine-qemu-$n-$name.scope
	mkdir -p "$c"
	mkfifo "/tmp/$name.in" "/tmp/$name.out"
	(
		enter=$c/cgroup.procs sh -c 'echo $$ >"$enter" && exec "$@"' qemu qemu-system-x86_64 -name "guest=$name,debug-threads=on" -uuid "00000000-0000-4000-8000-00000000000$n" \
			-accel kvm -cpu host -M q35 -nodefaults -display none -m "$mib" -smp "$vcpus" -device vmcoreinfo \
			-kernel /kernel/guests.vmlinuz -initrd /kernel/guest.gz \
			-append "console=ttyS0 quiet no_timer_check mitigations=off nowatchdog tsc=reliable vmname=$name $words" \
			-serial "file:/tmp/$name.log" -qmp "pipe:/tmp/$name" "$@" 2>"/tmp/$name.err"
		say "FAIL $name has ended: $(tail -n 2 "/tmp/$name.err")"
	) &
	qmp "$name" '{"execute":"qmp_capabilities"}' >/dev/null
}

# qmp NAME COMMAND: prints the line that the command returns. It tries again, because
# a child that ends interrupts the opening of a FIFO, and it gives up, because nobody
# opens the other end if QEMU has ended.
qmp() {
	i=0
	# shellcheck disable=SC2016 # for the inner shell
	until timeout 60 sh -c 'echo "$1" >"$2"' sh "$2" "/tmp/$1.in" || [ $i -gt 10 ]; do i=$((i + 1)); done 2>/dev/null
	until answerOf "$1" || [ $i -gt 10 ]; do i=$((i + 1)); done 2>/dev/null
	[ $i -le 10 ] || say "FAIL $1: no answer to $2"
}
answerOf() {
	while read -r line; do
		case $line in
		'{"return"'* | '{"error"'*)
			echo "$line" | tr -d '\r'
			return
			;;
		esac
	done <"/tmp/$1.out"
	false
}

# hmp NAME COMMAND: of the monitor for people; prints the answer in lines.
hmp() {
	answer=$(qmp "$1" "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"$2\"}}")
	answer=${answer#'{"return": "'}
	printf '%b' "${answer%\"\}}" | tr -d '\r'
}

# waits FILE WORDS: until it has a line with them, ten minutes at most.
waits() {
	i=0
	while ! grep -q "$2" "$1" 2>/dev/null && [ $i -lt 1200 ]; do
		sleep 0.5
		i=$((i + 1))
	done
	result "$(basename "$1"): $2" "$(grep -q "$2" "$1" || { tail -n 3 "$1" "${1%.log}.err"; })"
}

# processOf NAME: the process that runs a guest. In the cgroup a kernel thread
# follows it.
processOf() { head -n 1 /sys/fs/cgroup/machine.slice/machine-qemu-*-"$1".scope/cgroup.procs; }

# truth NAME: what is known of a guest of QEMU's goes to $out.
truth() {
	pid=$(processOf "$1")
	hmp "$1" 'info registers -a' >"$out/$1.registers"
	{
		echo "pid $pid"
		echo "cgroup $(cut -d: -f3 "/proc/$pid/cgroup")"
		for t in /proc/"$pid"/task/*; do echo "thread ${t##*/} $(cat "$t/comm")"; done
	} >"$out/$1.process"
}

first() {
	export PATH=/bin:/sbin:/usr/bin:/usr/sbin
	mount -t cgroup2 cgroup /sys/fs/cgroup
	mkdir -p /tmp/huge
	while read -r m; do try 0 "insmod.$m" insmod "/modules/$m"; done </modules/order
	n=0
	guests='web01 db02' nested=
	echo 'madvise' >/sys/kernel/mm/transparent_hugepage/enabled
	start web01 128 2 'busy=1 nohz_full=1 isolcpus=1'
	start db02 112 1 busy=0 -device virtio-rng-pci
	if [ "$GUESTS" = all ]; then
		guests="$guests huge03 nest04" nested=nest04
		echo 56 >/proc/sys/vm/nr_hugepages
		mount -t hugetlbfs hugetlbfs /tmp/huge
		start huge03 112 1 busy=0 -object memory-backend-file,id=m,size=112M,mem-path=/tmp/huge,prealloc=on -machine memory-backend=m
		start nest04 144 1 nested=1
	fi
	for g in $guests; do waits "/tmp/$g.log" 'tick 2'; done
	for g in $nested; do waits "/tmp/$g.log" 'N READY'; done
	hmp db02 stop
	for g in $guests; do
		truth "$g"
		cp "/tmp/$g.log" "$out/"
	done
	qmp db02 '{"execute":"pmemsave","arguments":{"val":0,"size":117440512,"filename":"/dump/db02.mem"}}' >"$out/pmemsave"
	# Symbols are of no use, and take a minute to read.
	try 0 gcore gdb -nx -batch -iex 'set auto-solib-add off' -p "$(processOf db02)" -ex 'generate-core-file /dump/db02.core.gcore'
	# Those that never leave their loop get the time that nobody else wants.
	for g in web01 $nested; do
		for t in /proc/"$(processOf "$g")"/task/*; do renice -n 19 -p "${t##*/}"; done >/dev/null
	done
	# Not QEMU: one guest on each of the two processors.
	nice -n 19 taskset 1 kvmguest A spin 0x10000 0x1f0000 0x1000 >/tmp/A.log 2>&1 &
	nice -n 19 taskset 2 kvmguest B spin 0x11000 0x1e0000 0x40000 >/tmp/B.log 2>&1 &
	for g in A B; do
		waits /tmp/$g.log "$g READY"
		cp /tmp/$g.log "$out/"
	done
	try 0 running vmcsnote guests --json /proc/kcore
	say 'the guests are as they shall be'
}

# reigns yes|no: A and B leave no time to anybody else on their processors.
reigns() {
	policy='-o -p 0'
	[ "$1" = no ] || policy='-f -p 1'
	# shellcheck disable=SC2086
	for g in A B; do chrt $policy "$(sed -n "s/^$g MEMORY .* pid=//p" /tmp/$g.log)"; done
}

# crash crashes the machine whose PID 1 this is, and no other that sources the file:
# the second processor, while it runs B and the first one A. Before that the third
# processor waits until web01's program is in its loop, and not in its kernel; from
# then on everything else stands still.
crash() {
	[ $$ = 1 ] || return 1
	settle
	mount -t debugfs debugfs /sys/kernel/debug
	echo -1 >/proc/sys/kernel/sched_rt_runtime_us
	for f in /sys/kernel/debug/sched/fair_server/cpu*/runtime; do # since 6.12
		[ ! -e "$f" ] || echo 0 >"$f"
	done
	echo 1 >/proc/sys/kernel/unknown_nmi_panic
	taskset -p 4 $$ >/dev/null
	i=0
	reigns yes
	until vmcsnote guests --field guest,vcpu,cs.selector /proc/kcore 2>/dev/null | grep -qx '0 1 0x33' || [ $i -gt 20 ]; do
		reigns no
		sleep 1
		reigns yes
		i=$((i + 1))
	done
	say "crash, after $i looks in vain"
	# The local APIC sends an NMI to the processor with APIC ID 1.
	devmem 0xfee00310 32 0x1000000
	devmem 0xfee00300 32 0x4400
	sleep 60
	say 'FAIL crash: the NMI made no panic'
	reboot -f
}

capture() {
	export PATH=/bin:/sbin:/usr/bin:/usr/sbin
	try 0 d31 makedumpfile -l -d 31 --message-level 4 /proc/vmcore /dump/d31
	# All but pages of zeros; or without the kernel's caches and free pages, which
	# takes a fifth of the time.
	level=1
	[ "$GUESTS" = all ] || level=23
	try 0 full makedumpfile -l -d $level --message-level 4 /proc/vmcore /dump/full
}
