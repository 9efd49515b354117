package ims

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// The ladder: one column a node, one line an event, the newest below.

const (
	columnWidth = 10
	timeWidth   = 9
)

// Columns are the nodes of the core, from left to right; terminals go before them, the
// application server and the media server behind.
func Columns(before, behind []string) []string {
	return slices.Concat(before, []string{pcscf, scscf, home, presence}, behind)
}

// Ladder draws events, sorted by time, whose columns are all in columns; others are left out.
// Times are seconds since the first. SIP and Diameter are drawn single, answers dashed, the
// signalling of the film double, with a lozenge where it was changed. The error is the writer's.
func Ladder(w io.Writer, columns []string, events []Event) error {
	var b strings.Builder
	known := func(name string) bool { return name == "" || slices.Contains(columns, name) }
	events = slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return !known(e.From) || !known(e.To) })
	head(&b, columns)
	for i, e := range events {
		switch {
		case e.From == "" && e.To == "":
			if i > 0 {
				b.WriteString(strings.TrimRight(rail(columns), " ") + "\n")
			}
			fmt.Fprintf(&b, "%*.3f  ── %s %s\n", timeWidth-2, e.At.Sub(events[0].At).Seconds(), e.Title, strings.Repeat("─", max(3, columnWidth*len(columns)-6-utf8.RuneCountInString(e.Title))))
			continue
		}
		line := []rune(strings.TrimRight(rail(columns), " "))
		line = append(line, []rune(strings.Repeat(" ", columnWidth/2))...)
		copy(line, []rune(fmt.Sprintf("%*.3f", timeWidth-2, e.At.Sub(events[0].At).Seconds())))
		from := place(columns, e.From)
		if e.To == "" {
			line[from] = '●'
		} else {
			arrow(line, from, place(columns, e.To), e, columns)
		}
		b.WriteString(strings.TrimRight(string(line)+e.Title+" "+e.Detail, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// place is where the lifeline of a column is.
func place(columns []string, name string) int {
	return timeWidth + slices.Index(columns, name)*columnWidth + columnWidth/2
}

func head(b *strings.Builder, columns []string) {
	line := fmt.Sprintf("%*s  ", timeWidth-2, "s")
	for _, c := range columns {
		space := columnWidth - utf8.RuneCountInString(c)
		left := max(0, (space+1)/2)
		line += strings.Repeat(" ", left) + c + strings.Repeat(" ", max(0, space-left))
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// rail is a line on which nothing happens.
func rail(columns []string) string {
	line := []rune(strings.Repeat(" ", timeWidth+columnWidth*len(columns)))
	for _, c := range columns {
		line[place(columns, c)] = '│'
	}
	return string(line)
}

// arrow draws a message over the lifelines between.
func arrow(line []rune, from, to int, e Event, columns []string) {
	stroke, cross := '─', '┼'
	switch {
	case e.Message == nil && !isCore(e.From) && !isCore(e.To):
		stroke, cross = '═', '╪'
	case e.Answer:
		stroke, cross = '╌', '┼'
	}
	start, end, step := '├', '►', 1
	if to < from {
		start, end, step = '┤', '◄', -1
	}
	line[from] = start
	for i := from + step; i != to; i += step {
		if line[i] == '│' {
			line[i] = cross
		} else {
			line[i] = stroke
		}
	}
	line[to-step] = end
	if e.Via != "" {
		line[place(columns, e.Via)] = '◆'
	}
}

func isCore(column string) bool {
	return slices.Contains([]string{pcscf, scscf, home, presence}, column)
}
