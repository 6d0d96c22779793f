"""Will it fit, how long will it take, and what will it cost?"""
