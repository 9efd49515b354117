#!/bin/sh
# Runs this room's tests, root ones included, and the demo, on Debian's own kernel in an emulated
# machine (no KVM needed). Nothing is installed: kernel and busybox are downloaded as packages and
# unpacked.
#   bpf/kernels.sh [go test pattern]      '^$' runs the demo alone
# Needs: go, qemu-system-x86_64, apt-get, dpkg-deb. KERNEL_PACKAGE names another kernel.
set -eu
cd "$(dirname "$0")"

pattern=${1:-.}
package=${KERNEL_PACKAGE:-$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/{print $2; exit}')}
cache=${SCAS_KERNEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/scas-kernels}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$cache"
for p in "$package" busybox-static; do
	[ -d "$cache/$p" ] && continue
	(cd "$work" && apt-get download -qq "$p" && dpkg-deb -x "$p"_*.deb "$cache/$p.new" && mv "$cache/$p.new" "$cache/$p")
done

root=$work/root
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/run" "$root/modules"
cp "$cache/busybox-static/bin/busybox" "$root/bin/busybox"
n=10
for m in veth sch_ingress cls_bpf tun llc stp garp mrp 8021q; do # in the order they need each other
	n=$((n + 1))
	find "$cache/$package/lib/modules" -name "$m.ko*" -exec cp {} "$root/modules/$n-$m.ko" \;
done
CGO_ENABLED=0 go test -c -o "$root/scas.test" .
CGO_ENABLED=0 go build -o "$root/bin/scas" ../cmd/scas
cp -r testdata "$root/testdata" 2>/dev/null || true

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /sys/fs/bpf
mount -t bpf bpf /sys/fs/bpf
for m in /modules/*.ko; do insmod "$m" || echo "insmod $m failed"; done
ip link set lo up
uname -r
cd /
SCAS_PRIV=1 SCAS_SLOW=1 SCAS_VLAN=1 /scas.test -test.v -test.timeout 25m -test.run "$(cat /pattern)" && scas demo
echo "scas-exit $?"
poweroff -f
INIT
chmod +x "$root/init"
printf %s "$pattern" >"$root/pattern"
(cd "$root" && find . | bin/busybox cpio -o -H newc | gzip -1) >"$work/initrd"

log=$work/log
timeout 1700 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nographic -nic none -vga none -no-reboot \
	-kernel "$(ls "$cache/$package"/boot/vmlinuz-*)" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet panic=-1 loglevel=3" </dev/null | tr -d '\r' | tee "$log"
grep -q '^scas-exit 0$' "$log"
