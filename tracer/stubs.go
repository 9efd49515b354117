package tracer

import "time"

func looksMMST([]byte) verdict                             { return no }
func looksMMSH([]byte) verdict                             { return no }
func openMMST(*Decoder, *conn, []byte, time.Time) dialogue { return nil }
func openMMSH(*Decoder, *conn, []byte, time.Time) dialogue { return nil }
