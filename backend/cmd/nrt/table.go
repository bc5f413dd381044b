package main

// The headings of the overview.
const (
	groupWatch = "Watch a model reason"
	groupAsk   = "Ask it"
	groupTrain = "Train it"
	groupAbout = "This program"
)

// commands lists all subcommands in the order of the overview; those of one
// group stand together.
func commands() []*command {
	return []*command{
		explainCommand(),
		serveCommand(),
		generateCommand(),
		scoreCommand(),
		logprobsCommand(),
		tokenizeCommand(),
		evalCommand(),
		trainCommand(),
		worldCommand(),
		exportCommand(),
		wordsCommand(),
		modelsCommand(),
		devicesCommand(),
		benchCommand(),
		bakeCommand(),
		versionCommand(),
	}
}
