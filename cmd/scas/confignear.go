package main

import (
	"slices"
	"strings"
)

// nearest returns the word that name most likely was meant to be: the one with the smallest
// edit distance, whatever the case, if that is small for the word's length.
func nearest(name string, words []string) (string, bool) {
	best, dist := "", 1<<30
	for _, w := range words {
		if d := editDistance(strings.ToLower(name), strings.ToLower(w)); d < dist || d == dist && w < best {
			best, dist = w, d
		}
	}
	return best, dist <= max(1, min(len(name), len(best))/3+1) && dist < len(best)
}

func suggest(name string, words []string) string {
	if near, ok := nearest(name, words); ok {
		return "; did you mean " + near + "?"
	}
	return ""
}

// suggestOnly is suggest for a list of words that is shown anyhow.
func suggestOnly(name string, words []string) string {
	if len(words) < 2 {
		return ""
	}
	return suggest(name, words)
}

// editDistance returns how many letters have to be put in, taken out, changed or swapped with
// their neighbour to make b of a (optimal string alignment).
func editDistance(a, b string) int {
	two, one, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(one[j+1]+1, row[j]+1, one[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], two[j-1]+1)
			}
		}
		two, one, row = one, row, two
	}
	return one[len(b)]
}

// names returns the names of the keys that are not reserved.
func names(keys []key) []string {
	var out []string
	for _, k := range keys {
		if k.reserved == "" {
			out = append(out, k.name)
		}
	}
	return out
}

// allPaths returns the paths of all keys that hold a value, as gateway.lan.
func allPaths(keys []key, prefix string) []string {
	var out []string
	for _, k := range keys {
		if k.sub != nil {
			out = append(out, allPaths(k.sub, prefix+k.name+".")...)
			continue
		}
		out = append(out, prefix+k.name)
	}
	return out
}

// lookup returns the key at path, which must exist.
func lookup(keys []key, path string) key {
	for _, k := range keys {
		if k.name == path {
			return k
		}
		if len(path) > len(k.name) && path[:len(k.name)+1] == k.name+"." && slices.Contains(allPaths(k.sub, ""), path[len(k.name)+1:]) {
			return lookup(k.sub, path[len(k.name)+1:])
		}
	}
	return key{}
}
