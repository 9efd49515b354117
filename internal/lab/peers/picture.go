package peers

import "slices"

// The picture: number n as 16 cells, most significant bit left, white is 1; below them the
// same cells inverted (a torn or foreign picture fails that check); a grey band; a bar that
// moves one pixel per picture, so that the encoder has motion.
const (
	Width  = 320
	Height = 180
	Rate   = 25 // pictures per second; one closed group of pictures is one second

	cells      = 16
	cellBand   = 48 // rows of each of the two bands of cells
	barTop     = 144
	barWidth   = 8
	white      = 0xeb
	black      = 0x10
	minClarity = 60 // least difference of a cell from its complement
)

// draw paints picture n as 8-bit grey into buf, which holds Width*Height bytes.
func draw(buf []byte, n int) {
	row := func(y int) []byte { return buf[y*Width : (y+1)*Width] }
	top, inverse, grey, bar := row(0), row(cellBand), row(2*cellBand), row(barTop)
	for x := range Width {
		bit := n>>(cells-1-x*cells/Width)&1 == 1
		top[x], inverse[x] = black, white
		if bit {
			top[x], inverse[x] = white, black
		}
		grey[x] = 110
		bar[x] = 0x20
		if at := n % (Width - barWidth); x >= at && x < at+barWidth {
			bar[x] = 0xd0
		}
	}
	for y := range Height {
		switch {
		case y < cellBand:
			copy(row(y), top)
		case y < 2*cellBand:
			copy(row(y), inverse)
		case y < barTop:
			copy(row(y), grey)
		default:
			copy(row(y), bar)
		}
	}
}

// FramePos returns the number that a picture of Width x Height carries. at gives the
// brightness of a point. ok is false when the picture is none of ours, or torn. Each cell is
// the median of nine points.
func FramePos(at func(x, y int) byte) (n int, ok bool) {
	for c := range cells {
		x := (2*c + 1) * Width / (2 * cells)
		cell, inverse := median(at, x, cellBand/2), median(at, x, cellBand+cellBand/2)
		switch {
		case cell >= inverse+minClarity:
			n = n<<1 | 1
		case inverse >= cell+minClarity:
			n <<= 1
		default:
			return 0, false
		}
	}
	return n, true
}

func median(at func(x, y int) byte, x, y int) int {
	var v [9]byte
	i := 0
	for _, dy := range [3]int{-8, 0, 8} {
		for _, dx := range [3]int{-3, 0, 3} {
			v[i] = at(x+dx, y+dy)
			i++
		}
	}
	slices.Sort(v[:])
	return int(v[4])
}
