package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// place is where something was said: a file with line and column, a variable, a flag.
type place struct {
	source    string
	line, col int
}

func (p place) String() string {
	switch {
	case p.line > 0:
		return fmt.Sprintf("%s:%d:%d", p.source, p.line, p.col)
	case p.source == "":
		return "configuration"
	}
	return p.source
}

// problem is one thing that is wrong, where, and with which key.
type problem struct {
	at        place
	key, text string
}

func (p problem) String() string {
	if p.key == "" || strings.HasSuffix(p.at.String(), " "+p.key) { // --set names the key itself
		return p.at.String() + ": " + p.text
	}
	return p.at.String() + ": " + p.key + ": " + p.text
}

// configError is everything that is wrong with a configuration, one line each.
type configError struct{ problems []problem }

func (e *configError) Error() string {
	lines := make([]string, len(e.problems))
	for i, p := range e.problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// value is a node of a document together with the path of its key.
type value struct {
	node ast.Node
	path string
}

// items returns the elements of a list; ok is false when v is none.
func (v value) items() (items []value, ok bool) {
	seq, ok := v.node.(*ast.SequenceNode)
	if !ok {
		return nil, false
	}
	for i, n := range seq.Values {
		items = append(items, value{n, fmt.Sprintf("%s[%d]", v.path, i)})
	}
	return items, true
}

// reader reads documents into what its keys point to and collects what is wrong.
type reader struct {
	keys     []key
	source   string           // file, or what stands in for line and column
	lines    bool             // the source is a file: line and column mean something
	places   map[string]place // where each path was said last
	problems []problem
}

func (r *reader) readFile(name string, text []byte) {
	r.source, r.lines = name, true
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		r.syntax(err)
		return
	}
	if len(file.Docs) > 1 {
		r.add(r.position(file.Docs[1].Body), "", "a second document: the file must hold one")
		return
	}
	if len(file.Docs) == 1 && file.Docs[0].Body != nil {
		r.mapping(value{file.Docs[0].Body, ""}, r.keys)
	}
}

func (r *reader) syntax(err error) {
	var ye yaml.Error
	if errors.As(err, &ye) && ye.GetToken() != nil && ye.GetToken().Position != nil {
		pos := ye.GetToken().Position
		text := ye.GetMessage()
		if strings.HasPrefix(text, "found character '\t'") {
			text = "a tab: YAML is indented by spaces"
		}
		r.add(place{r.source, pos.Line, pos.Column}, "", text)
		return
	}
	r.add(place{source: r.source}, "", err.Error())
}

// readEnviron reads SCAS_GATEWAY_LAN=... and the like. Variables that begin as a section of
// the file does but name no key are refused; other SCAS_* are none of the file's.
func (r *reader) readEnviron(environ []string) {
	vars := map[string]string{} // variable -> path
	for _, path := range allPaths(r.keys, "") {
		vars["SCAS_"+strings.ToUpper(strings.ReplaceAll(path, ".", "_"))] = path
	}
	environ = slices.Clone(environ)
	slices.Sort(environ)
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if path, ok := vars[name]; ok {
			r.override("environment variable "+name, path, text)
			continue
		}
		section := strings.SplitN(strings.ToLower(strings.TrimPrefix(name, "SCAS_")), "_", 2)
		if strings.HasPrefix(name, "SCAS_") && len(section) == 2 && slices.ContainsFunc(r.keys, func(k key) bool {
			return k.name == section[0] && k.read == nil
		}) {
			known := make([]string, 0, len(vars))
			for v := range vars {
				known = append(known, v)
			}
			r.add(place{source: "environment variable " + name}, "", "no such key"+suggest(name, known))
		}
	}
}

// readSettings reads the key=value of --set.
func (r *reader) readSettings(settings []string) {
	paths := allPaths(r.keys, "")
	for _, s := range settings {
		path, text, ok := strings.Cut(s, "=")
		switch {
		case !ok:
			r.add(place{source: "--set " + s}, "", "want KEY=VALUE")
		case !slices.Contains(paths, path):
			r.add(place{source: "--set " + s}, path, "unknown key"+suggest(path, paths))
		default:
			r.override("--set "+path, path, text)
		}
	}
}

// override reads text, a YAML value or the elements of a list with commas between, as the
// value of the key at path.
func (r *reader) override(source, path, text string) {
	r.source, r.lines = source, false
	k := lookup(r.keys, path)
	if k.list && !strings.HasPrefix(strings.TrimSpace(text), "[") {
		text = "[" + text + "]"
	}
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		r.add(place{source: source}, path, "is no YAML value")
		return
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		r.add(place{source: source}, path, "has no value")
		return
	}
	r.one(k, value{file.Docs[0].Body, path})
}

// mapping reads the keys of a mapping and returns which were there; nil when v is none, or
// holds keys that are wrong.
func (r *reader) mapping(v value, keys []key) map[string]bool {
	m, ok := v.node.(*ast.MappingNode)
	if !ok {
		r.bad(v, "want keys here: "+strings.Join(names(keys), ", "))
		return nil
	}
	named, wrong := map[string]bool{}, false
	for _, entry := range m.Values {
		name := entry.Key.GetToken().Value
		path := strings.TrimPrefix(v.path+"."+name, ".")
		at := r.position(entry.Key)
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		if i < 0 {
			r.unknown(at, v.path, name, keys)
			wrong = true
			continue
		}
		named[name] = true
		r.places[path] = at
		r.one(keys[i], value{entry.Value, path})
	}
	if wrong {
		return nil
	}
	return named
}

// one reads the value of one key.
func (r *reader) one(k key, v value) {
	if !r.lines {
		r.places[v.path] = r.position(v.node)
	}
	switch v.node.(type) {
	case *ast.AliasNode, *ast.AnchorNode, *ast.TagNode, *ast.LiteralNode:
		r.bad(v, "anchors, aliases, tags and block texts have no place here")
		return
	case *ast.NullNode:
		r.bad(v, "has no value")
		return
	}
	switch {
	case k.reserved != "":
		if k.allowed == nil || !k.allowed(r, v) {
			r.add(r.places[v.path], v.path, reservedFor(k.reserved))
		}
	case k.sub != nil:
		r.mapping(v, k.sub)
	default:
		k.read(r, v)
	}
}

func reservedFor(part string) string { return "reserved for a part that is not built yet: " + part }

// unknown refuses a key, with the nearest right one: of the same mapping, else of the file.
func (r *reader) unknown(at place, parent, name string, keys []key) {
	hint := ""
	if near, ok := nearest(name, names(keys)); ok {
		hint = "; did you mean " + strconv.Quote(near) + "?"
	} else {
		for _, path := range allPaths(r.keys, "") {
			if path == name || strings.HasSuffix(path, "."+name) {
				hint = "; did you mean " + path + "?"
			}
		}
	}
	if hint == "" {
		hint = "; the keys here are " + strings.Join(names(keys), ", ")
	}
	r.add(at, strings.TrimPrefix(parent+"."+name, "."), "unknown key"+hint)
}

// list returns the elements of a list, none when v is no list.
func (r *reader) list(v value) []value {
	items, ok := v.items()
	if !ok {
		r.bad(v, "want a list: [a, b]")
	}
	return items
}

// scalar returns the text of a plain or quoted value.
func (r *reader) scalar(v value) (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	r.bad(v, "want a single value")
	return "", false
}

// bad adds a problem at the value v; wrong adds one at the place where path was said, or
// where the nearest thing around it was.
func (r *reader) bad(v value, text string) { r.add(r.position(v.node), v.path, text) }

func (r *reader) wrong(path, text string) {
	at := place{source: r.source}
	for p := path; ; p = p[:strings.LastIndexAny(p, ".[")] {
		if found, ok := r.places[p]; ok {
			at = found
			break
		}
		if !strings.ContainsAny(p, ".[") {
			break
		}
	}
	r.add(at, path, text)
}

func (r *reader) add(at place, key, text string) {
	r.problems = append(r.problems, problem{at, key, text})
}

func (r *reader) position(n ast.Node) place {
	at := place{source: r.source}
	if n == nil || !r.lines {
		return at
	}
	// A block mapping's own token is the colon of its first entry.
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		at.line, at.col = tk.Position.Line, tk.Position.Column
	}
	return at
}
