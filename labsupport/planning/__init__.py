"""Will it fit? By arithmetic on paper, by the traced step, and held to what others measured."""
