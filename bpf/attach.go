package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// filterPriority is the place of our clsact filters among others' on the device.
const filterPriority = 8470

// hookPoint is one program at one place.
type hookPoint struct {
	dev    *device
	prog   string
	tcx    ebpf.AttachType
	parent uint32
	handle uint32 // of the clsact filter, so that two programs may share a device
}

// hookPoints lists what is to be attached.
func (h *host) hookPoints() (points []hookPoint) {
	for _, d := range h.devices {
		if d.lan {
			points = append(points,
				hookPoint{d, progLANIn, ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS, 1},
				hookPoint{d, progLANOut, ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS, 1})
		}
		if d.wan {
			points = append(points, hookPoint{d, progWANIn, ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS, 2})
		}
	}
	return points
}

// attach puts the programs on the devices: by TCX where the kernel has it (6.6), else by clsact.
// Filters a crash left are replaced in one step, or removed when they are of no more use. The WAN
// hook goes again at once, but for a gateway that steers all: each packet pays for it (wan).
func (h *host) attach(k *kernel) error {
	left, err := h.filtersLeft()
	if err != nil {
		return err
	}
	h.kernel, h.clsact = k, h.cfg.Attach == AttachClsact
	for _, p := range h.hookPoints() {
		if err := h.attachPoint(p, left); err != nil {
			return err
		}
	}
	if err := h.removeFilters(left); err != nil {
		return err
	}
	h.wanOn = true
	if h.cfg.SteerAlways {
		return nil
	}
	return h.switchWAN(false)
}

// wan puts the WAN hook on its devices or takes it off: it is of use while there is an upstream leg,
// or a terminal is armed, which is how legs come. Call it with Gateway.mu held.
func (h *host) wan(on bool) error {
	if h == nil || h.watch == nil { // programs run without devices
		return nil
	}
	return h.watch.do(func() error { return h.switchWAN(on) })
}

// switchWAN is wan, in the goroutine that may attach. A device that is away gets the hook when it
// returns.
func (h *host) switchWAN(on bool) error {
	if on == h.wanOn {
		return nil
	}
	var errs []error
	for _, p := range h.hookPoints() {
		if !on || !p.wan() {
			continue
		}
		if err := h.attachPoint(p, nil); err != nil && !isAway(err) {
			errs = append(errs, err)
			on = false // all or none
		}
	}
	for _, d := range h.devices {
		if !on {
			errs = append(errs, undoAll(&d.undoWAN))
		}
	}
	h.wanOn = on
	return errors.Join(errs...)
}

// isAway reports whether the device does not exist just now.
func isAway(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.Is(err, unix.ENODEV) || errors.As(err, &none)
}

func (p hookPoint) wan() bool { return p.prog == progWANIn }

// undoes has f called when the hook is taken off.
func (p hookPoint) undoes(f func() error) {
	if p.wan() {
		p.dev.undoWAN = append(p.dev.undoWAN, f)
	} else {
		p.dev.undo = append(p.dev.undo, f)
	}
}

// undoAll undoes in reverse order, and forgets.
func undoAll(undo *[]func() error) error {
	var errs []error
	for _, f := range slices.Backward(*undo) {
		errs = append(errs, f())
	}
	*undo = nil
	return errors.Join(errs...)
}

// attachPoint attaches one program; left is what it may replace.
func (h *host) attachPoint(p hookPoint, left map[filterID]netlink.Filter) error {
	prog := h.kernel.program(p.prog, p.dev.bare)
	if !h.clsact {
		err := h.attachTCX(p, prog)
		if !errors.Is(err, ebpf.ErrNotSupported) || h.cfg.Attach == AttachTCX {
			return err
		}
		h.clsact = true
	}
	return h.attachClsact(p, prog, left)
}

func (h *host) attachTCX(p hookPoint, prog *ebpf.Program) error {
	l, err := link.AttachTCX(link.TCXOptions{Interface: p.dev.index, Program: prog, Attach: p.tcx})
	if err != nil {
		return fmt.Errorf("attach %s to %s: %w", p.prog, p.dev.name, err)
	}
	p.undoes(l.Close)
	return nil
}

// filterName begins the name of every filter of this gateway.
func (h *host) filterName() string { return "scas_" + strconv.Itoa(h.cfg.Table) + "_" }

// filterID says where a filter is.
type filterID struct {
	index  int
	parent uint32
	handle uint32
}

// isLeft reports whether a filter is of a gateway that is gone: of this table, which is locked by
// us, or of one nobody runs with.
func (h *host) isLeft(name string) bool {
	rest, ok := strings.CutPrefix(name, "scas_")
	if !ok {
		return false
	}
	text, _, _ := strings.Cut(rest, "_")
	table, err := strconv.Atoi(text)
	return err == nil && (table == h.cfg.Table || !instanceRuns(table))
}

// filtersLeft finds the filters a crash left, on any device.
func (h *host) filtersLeft() (map[filterID]netlink.Filter, error) {
	links, err := h.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	left := make(map[filterID]netlink.Filter)
	for _, l := range links {
		if has, err := h.hasClsact(l); err != nil || !has {
			continue // gone meanwhile, or nothing of ours on it
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := h.nl.FilterList(l, parent)
			if err != nil {
				return nil, fmt.Errorf("list filters of %s: %w", l.Attrs().Name, err)
			}
			for _, f := range filters {
				if b, ok := f.(*netlink.BpfFilter); ok && h.isLeft(b.Name) {
					left[filterID{l.Attrs().Index, parent, b.Handle}] = f
				}
			}
		}
	}
	return left, nil
}

// checkFilters finds filters of others in the place of ours.
func (h *host) checkFilters() (found []*ConflictError, err error) {
	for _, d := range h.devices {
		l, err := h.nl.LinkByIndex(d.index)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", d.name, err)
		}
		if has, err := h.hasClsact(l); err != nil || !has {
			continue
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := h.nl.FilterList(l, parent)
			if err != nil {
				return nil, fmt.Errorf("list filters of %s: %w", d.name, err)
			}
			for _, f := range filters {
				b, ok := f.(*netlink.BpfFilter)
				if f.Attrs().Priority == filterPriority && !(ok && (strings.HasPrefix(b.Name, h.filterName()) || h.isLeft(b.Name))) {
					found = append(found, filterConflict(d))
				}
			}
		}
	}
	return found, nil
}

func filterConflict(d *device) *ConflictError {
	return &ConflictError{What: "filter", Found: fmt.Sprintf("a filter of priority %d on %s", filterPriority, d.name)}
}

func (h *host) hasClsact(l netlink.Link) (bool, error) {
	qdiscs, err := h.nl.QdiscList(l)
	if err != nil {
		return false, fmt.Errorf("list qdiscs of %s: %w", l.Attrs().Name, err)
	}
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			return true, nil
		}
	}
	return false, nil
}

func clsactOn(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}}
}

// addClsact makes sure the device has the qdisc; one that was not there goes with its last filter.
func (h *host) addClsact(p hookPoint, left map[filterID]netlink.Filter) error {
	d := p.dev
	l, err := h.nl.LinkByIndex(d.index)
	if err != nil {
		return fmt.Errorf("find %s: %w", d.name, err)
	}
	has, err := h.hasClsact(l)
	if err != nil {
		return err
	}
	ours := !has
	for id := range left { // made by the gateway that crashed
		ours = ours || id.index == d.index
	}
	if !has {
		if err := h.nl.QdiscAdd(clsactOn(d.index)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add clsact to %s: %w", d.name, err)
		}
	}
	if ours {
		p.undoes(func() error { return h.removeClsact(l) })
	}
	return nil
}

// removeClsact removes the qdisc unless somebody else uses it by now.
func (h *host) removeClsact(l netlink.Link) error {
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := h.nl.FilterList(l, parent)
		if err != nil {
			return wrapUndo("list filters", err)
		}
		if len(filters) > 0 {
			return nil
		}
	}
	return wrapUndo("remove clsact from "+l.Attrs().Name, h.nl.QdiscDel(clsactOn(l.Attrs().Index)))
}

func (h *host) attachClsact(p hookPoint, prog *ebpf.Program, left map[filterID]netlink.Filter) error {
	if err := h.addClsact(p, left); err != nil {
		return err
	}
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: p.dev.index,
			Parent:    p.parent,
			Handle:    p.handle,
			Protocol:  unix.ETH_P_ALL,
			Priority:  filterPriority,
		},
		Fd:           prog.FD(),
		Name:         h.filterName() + p.prog,
		DirectAction: true,
	}
	id := filterID{p.dev.index, p.parent, p.handle}
	add := h.nl.FilterAdd
	if _, ok := left[id]; ok {
		add = h.nl.FilterReplace // in one step: no packet passes between the old and the new program
		delete(left, id)
	}
	if err := add(f); err != nil {
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINVAL) {
			return filterConflict(p.dev)
		}
		return fmt.Errorf("attach %s to %s: %w", p.prog, p.dev.name, err)
	}
	p.undoes(func() error {
		return wrapUndo("remove filter from "+p.dev.name, h.nl.FilterDel(f))
	})
	return nil
}

// removeFilters removes what a crash left and nothing replaced, and the qdisc with the last of them.
func (h *host) removeFilters(left map[filterID]netlink.Filter) error {
	for id, f := range left {
		l, err := h.nl.LinkByIndex(id.index)
		if err != nil {
			continue // went with its filters
		}
		h.log.Info("filter of a gateway that is gone removed", "interface", l.Attrs().Name)
		if err := wrapUndo("remove stale filter", h.nl.FilterDel(f)); err != nil {
			return err
		}
		if err := h.removeClsact(l); err != nil {
			return err
		}
	}
	return nil
}
