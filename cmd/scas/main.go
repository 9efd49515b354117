// Command scas watches the media sessions of a router's users and moves them from one of
// their terminals to another. It reads flags, the configuration file, SCAS_* variables and
// signals, wires the rooms together and prints; it speaks no protocol and decides nothing.
package main

import "os"

func main() { os.Exit(run(newEnv())) }
