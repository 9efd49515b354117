// Command handset is the SIP half of one terminal: it registers, shows offers to go on with a
// film and starts the player for one that is accepted, sends list, push, pull and auto, and
// publishes presence. It plays nothing itself and decides nothing about films.
package main

import "os"

func main() { os.Exit(run(newEnv())) }
